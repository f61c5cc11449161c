"""torch_rim's side of `benchmarks/rim.py`, run by it in torch_rim's own environment.

Reads one JSON command a line from standard input and answers with one JSON line.
"""

import contextlib
import io
import json
import sys
import time

import numpy as np
import torch
from rim import RIM, Hourglass
from torch.func import vmap


def read(path):
    """Examples as `(y, x, A, sigma)` with the channel where torch has it."""
    with np.load(path) as file:
        y, x, a, sigma = (torch.from_numpy(file[name]) for name in ("y", "x", "a", "sigma"))
    return y, x.movedim(-1, 1), a, sigma


@vmap
def score_fn(x, y, a, sigma):
    """Of the likelihood of one example."""
    residual = y - a @ x.squeeze(0)
    return (residual @ a / sigma**2).unsqueeze(0)


def fit(rim, data, **options):
    """torch_rim's own training; it prints, so its words go nowhere."""
    silence = io.StringIO()
    with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        dataset = torch.utils.data.TensorDataset(*data)
        rim.fit(dataset, learning_rate=1e-3, **options)


@torch.no_grad()
def predict(rim, data, batch_size):
    """The parameters, in batches."""
    y, _, *args = data
    parts = [
        rim.predict(y[k : k + batch_size], *[each[k : k + batch_size] for each in args])
        for k in range(0, len(y), batch_size)
    ]
    return torch.cat(parts)


def main():
    """Answers commands until there are no more."""
    settings = json.loads(sys.stdin.readline())
    torch.manual_seed(0)
    train, test = read(settings["train"]), read(settings["test"])
    network = Hourglass(channels=1, nf=32, ch_mult=(2, 2))
    rim = RIM([settings["size"]], network, score_fn=score_fn, device="cpu")
    for line in sys.stdin:
        command = json.loads(line)
        start = time.perf_counter()
        answer = {}
        if command["do"] == "fit":
            fit(
                rim,
                train,
                epochs=command["epochs"],
                batch_size=settings["batch"],
                shuffle=True,
            )
        elif command["do"] == "predict":
            estimate = predict(rim, test, command["batch_size"])
            answer["error"] = float(((estimate - test[1]) ** 2).mean())
        elif command["do"] == "count":
            answer["weights"] = sum(p.numel() for p in network.parameters())
        answer["seconds"] = time.perf_counter() - start
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
