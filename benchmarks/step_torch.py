"""The models in PyTorch, as its users write them: eager, with fused kernels for the update."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def linear(inputs: int, outputs: int, stddev: float | None) -> nn.Linear:
    """A dense layer with normal weights, of Glorot's size without a deviation."""
    layer = nn.Linear(inputs, outputs)
    if stddev is None:
        nn.init.xavier_normal_(layer.weight)
    else:
        nn.init.normal_(layer.weight, std=stddev)
    nn.init.zeros_(layer.bias)
    return layer


class Reviews(nn.Module):
    """Logistic regression on bags of words, kept one after the other without padding.

    Rows are selected and added up, which takes a fifth of the time of `nn.EmbeddingBag`.
    """

    def __init__(self, words: np.ndarray, counts: np.ndarray, dropout: float) -> None:
        super().__init__()
        lengths = np.count_nonzero(counts, axis=1)
        inside = counts > 0
        self.words = torch.from_numpy(words[inside].astype(np.int64))
        self.counts = torch.from_numpy(counts[inside])
        self.lengths = torch.from_numpy(lengths)
        self.starts = torch.from_numpy(np.cumsum(lengths) - lengths)
        self.dropout = dropout
        self.kernel = nn.Parameter(torch.zeros(10_000, 2))
        self.bias = nn.Parameter(torch.zeros(2))

    def forward(self, reviews: torch.Tensor) -> torch.Tensor:
        """The logits of these reviews."""
        lengths = self.lengths[reviews]
        offsets = self.starts[reviews] - lengths.cumsum(0) + lengths
        places = torch.arange(int(lengths.sum())) + offsets.repeat_interleave(lengths)
        rows = torch.arange(len(reviews)).repeat_interleave(lengths)
        values = F.dropout(self.counts[places].float(), self.dropout)
        found = self.kernel.index_select(0, self.words[places]) * values[:, None]
        return self.bias + torch.zeros(len(reviews), 2).index_add(0, rows, found)


class Autoencoder(nn.Module):
    """The variational auto-encoder; gives minus the bound of each example."""

    def __init__(self, hidden: int = 500, latent: int = 50) -> None:
        super().__init__()
        self.encoder = linear(784, hidden, 0.01)
        self.mean, self.log_variance = (linear(hidden, latent, 0.01) for _ in range(2))
        self.decoder = linear(latent, hidden, 0.01)
        self.pixels = linear(hidden, 784, 0.01)

    def forward(self, target: torch.Tensor) -> torch.Tensor:
        """The mean cost."""
        code = F.softplus(self.encoder(target))
        mean, log_variance = self.mean(code), self.log_variance(code)
        drawn = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        logits = self.pixels(F.softplus(self.decoder(drawn)))
        divergence = log_variance.exp() + mean.square() - 1 - log_variance
        pixels = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        return (divergence.sum() / 2 + pixels) / len(target)


class Transformer(nn.Module):
    """The GPT; gives the mean cost of the letters of windows."""

    def __init__(
        self, letters: int = 65, width: int = 128, heads: int = 4, depth: int = 4, context: int = 64
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(letters, width)
        self.positions = nn.Parameter(torch.empty(context, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim > 1:
                last = name.endswith(("project.weight", "contract.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * depth) ** 0.5 if last else 0.02)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """The mean cost."""
        x = self.embedding(windows[:, :-1]) + self.positions
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())


class Block(nn.Module):
    """Attention and two dense layers, each added to what goes in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(width, bias=False) for _ in range(2))
        self.attend = nn.Linear(width, 3 * width, bias=False)
        self.project = nn.Linear(width, width, bias=False)
        self.expand = nn.Linear(width, 4 * width, bias=False)
        self.contract = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum."""
        parts = self.attend(self.norm1(x)).chunk(3, dim=-1)
        query, key, value = (p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in parts)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.project(seen.transpose(1, 2).flatten(2))
        return x + self.contract(F.gelu(self.expand(self.norm2(x))))


class Residual(nn.Module):
    """Two convolutions added to what goes in."""

    def __init__(self, inputs: int, filters: int) -> None:
        super().__init__()
        self.stride = 1 if inputs == filters else 2
        self.more = filters - inputs
        self.conv1 = nn.Conv2d(inputs, filters, 3, self.stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(filters), nn.BatchNorm2d(filters)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum, rectified."""
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.more:
            half = self.more // 2
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, self.more - half))
        return F.relu(inner + x)


def resnet() -> nn.Module:
    """ResNet-20; channels last."""
    first = nn.Conv2d(3, 16, 3, padding=1, bias=False)
    widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    blocks = [Residual(a, b) for a, b in itertools.pairwise(widths)]
    ends = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    network = nn.Sequential(first, nn.BatchNorm2d(16), nn.ReLU(), *blocks, *ends)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    return network.to(memory_format=torch.channels_last)


def shifted(images: torch.Tensor) -> torch.Tensor:
    """Images (batch, 32, 32, 3), each flipped and moved at random by up to four pixels."""
    moved = torch.randint(9, (len(images), 2))
    columns = torch.arange(32)[None]
    columns = torch.where(torch.rand(len(images), 1) < 0.5, columns, 31 - columns) + moved[:, 1:]
    rows = torch.arange(32)[None] + moved[:, :1]
    places = (rows[:, :, None] * 40 + columns[:, None, :]).reshape(len(images), -1, 1)
    padded = F.pad(images, (0, 0, 4, 4, 4, 4)).reshape(len(images), 1600, 3)
    return padded.gather(1, places.expand(-1, -1, 3)).reshape(images.shape)


def multilayer(dropout: float) -> nn.Module:
    """Two hidden layers of 1000 ReLUs."""
    return nn.Sequential(
        *(linear(784, 1000, None), nn.ReLU(), nn.Dropout(dropout)),
        *(linear(1000, 1000, None), nn.ReLU(), nn.Dropout(dropout)),
        linear(1000, 10, None),
    )


def convolutional() -> nn.Module:
    """Three stages of 5x5 convolution and pooling, then 1000 ReLUs; channels last."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 64), (64, 64), (64, 128)):
        convolution = nn.Conv2d(inputs, outputs, 5, padding="same")
        nn.init.normal_(convolution.weight, std=0.01)
        nn.init.zeros_(convolution.bias)
        # Padding below and to the right only, as TensorFlow's "same".
        layers += [convolution, nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True)]
    layers += [nn.Flatten(), linear(2048, 1000, 0.01), nn.ReLU(), linear(1000, 10, 0.01)]
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def prepare(
    model: Any, arrays: tuple[np.ndarray, ...], threads: int, update: str, rate: float
) -> Callable[[np.ndarray], float]:
    """The training of a model: from the batches' indices to the mean cost."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    options = model.options
    data = [torch.from_numpy(np.array(a)) for a in arrays if a.dtype != np.uint16]
    labels = data[-1].long()
    network: nn.Module

    if model.problem == "imdb_logistic_regression":
        network = Reviews(arrays[0], arrays[1], options["dropout"])

        def cost(rows: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(network(rows), labels[rows])

    elif model.problem == "mnist_variational":
        network = Autoencoder()

        def cost(rows: torch.Tensor) -> torch.Tensor:
            return network(data[0][rows].float().div_(255))

    elif model.problem == "tinyshakespeare_gpt":
        network = Transformer()

        def cost(rows: torch.Tensor) -> torch.Tensor:
            return network(data[0][rows].long())

    elif model.problem == "cifar10_resnet":
        network = resnet()
        mean, stddev = (
            torch.from_numpy(np.asarray(f(arrays[0], axis=(0, 1, 2)), np.float32))
            for f in (np.mean, np.std)
        )

        def cost(rows: torch.Tensor) -> torch.Tensor:
            images = shifted((data[0][rows].float() - mean) / stddev)
            return F.cross_entropy(network(images.permute(0, 3, 1, 2)), labels[rows])

    elif model.problem == "cifar10_convolutional":
        network = convolutional()

        def cost(rows: torch.Tensor) -> torch.Tensor:
            images = data[0][rows].permute(0, 3, 1, 2)  # channels last in memory
            return F.cross_entropy(network(images), labels[rows])

    else:
        if model.problem == "mnist_multilayer":
            network = multilayer(options["hidden_dropout"])
        else:
            network = linear(784, 10, 0.0)

        def cost(rows: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(network(data[0][rows].float().div_(255)), labels[rows])

    kernels = [p for p in network.parameters() if p.ndim > 1] if options.get("l2") else []
    make = torch.optim.Adam if update == "adam" else torch.optim.SGD
    optimizer = make(network.parameters(), lr=rate, fused=True)

    def train(order: np.ndarray) -> float:
        total = torch.zeros(())
        for rows in torch.from_numpy(order):
            optimizer.zero_grad(set_to_none=True)
            batch_cost = objective = cost(rows)
            for kernel in kernels:
                objective = objective + options["l2"] / 2 * kernel.square().sum()
            objective.backward()
            optimizer.step()
            total += batch_cost.detach()
        return total.item() / len(order)

    return train
