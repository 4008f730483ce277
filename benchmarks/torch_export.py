"""PyTorch's own ONNX export of two recurrent layers: python torch_export.py KIND H FILE."""

import sys

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

D = 128


class Layers(nn.Module):
    def __init__(self, kind: str, H: int):
        super().__init__()
        name = {"SimpleRNN": "RNN"}.get(kind, kind.rpartition(" ")[2])
        both = kind.startswith("bi")
        self.layers = getattr(nn, name)(D, H, 2, batch_first=True, bidirectional=both)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.layers(packed)[0], batch_first=True)[0]


def main(kind: str, H: str, file: str) -> None:
    given = torch.randn(3, 7, D), torch.tensor([7, 5, 2])
    axes = {"x": {0: "batch", 1: "time"}, "lengths": {0: "batch"}, "y": {0: "batch", 1: "time"}}
    torch.onnx.export(
        Layers(kind, int(H)).eval(),
        given,
        file,
        input_names=["x", "lengths"],
        output_names=["y"],
        dynamic_axes=axes,
        dynamo=False,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
