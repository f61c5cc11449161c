"""The inverse problem, as the user states it.

`likelihoods` and `scores` say how well parameters explain an observation, `links` and
`parameters` say what the parameters are, and `preprocessing` says what the network sees of the
score.
"""
