"""What neural posterior estimation is made of, but for the density estimators themselves."""
