"""The worker for torch_rim, which `benchmarks/rim.py` runs in torch_rim's own environment."""

import contextlib
import io
import sys
import time
from pathlib import Path

import numpy as np
import torch
from rim import RIM, Hourglass
from torch.func import vmap


def read(path):
    """Examples `(y, x, A, sigma)`, with the channel axis of `x` where torch expects it."""
    with np.load(path) as file:
        y, x, a, sigma = (torch.from_numpy(file[name]) for name in ("y", "x", "a", "sigma"))
    return y, x.movedim(-1, 1), a, sigma


@vmap
def score_fn(x, y, a, sigma):
    """The score of the likelihood of one example."""
    residual = y - a @ x.squeeze(0)
    return (residual @ a / sigma**2).unsqueeze(0)


def fit(rim, data, **options):
    """Runs torch_rim's own training and discards what it prints."""
    silence = io.StringIO()
    with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        dataset = torch.utils.data.TensorDataset(*data)
        rim.fit(dataset, learning_rate=1e-3, **options)


@torch.no_grad()
def predict(rim, data, batch_size):
    """Predicts the parameters of all examples in batches."""
    y, _, *args = data
    parts = [
        rim.predict(y[k : k + batch_size], *[each[k : k + batch_size] for each in args])
        for k in range(0, len(y), batch_size)
    ]
    return torch.cat(parts)


def worker(train, test, size, batch):
    """Answers requests to train torch_rim and to predict with it."""
    from peer import serve

    torch.manual_seed(0)
    train, test = read(train), read(test)
    network = Hourglass(channels=1, nf=32, ch_mult=(2, 2))
    rim = RIM([size], network, score_fn=score_fn, device="cpu")

    def train_for(epochs):
        started = time.perf_counter()
        fit(rim, train, epochs=epochs, batch_size=batch, shuffle=True)
        return time.perf_counter() - started

    def error_of(batch_size):
        started = time.perf_counter()
        estimate = predict(rim, test, batch_size)
        seconds = time.perf_counter() - started
        return float(((estimate - test[1]) ** 2).mean()), seconds

    serve(
        {
            "fit": train_for,
            "predict": error_of,
            "weights": lambda: sum(p.numel() for p in network.parameters()),
        }
    )


if __name__ == "__main__":
    # At the end of the path, because this folder has a `rim.py` and torch_rim's package is `rim`.
    sys.path.append(str(Path(__file__).resolve().parent))
    worker(*sys.argv[1:3], *map(int, sys.argv[3:5]))
