"""The PyTorch side of translation_speed.py; imports torch and numpy only.

    python torch_translation.py decode FOLDER       beam search with the weights and ids of FOLDER
    python torch_translation.py attention B S T E H one training step of an attention decoder

Each line on stdin asks for one run; the answer is a line of JSON with its seconds.
"""

import json
import sys
import time

import numpy as np
import torch
from torch import nn

END, START = 3, 2


class Weights:
    """Tensors by the end of their Keras path."""

    def __init__(self, file):
        self.tensors = {k.replace("|", "/"): torch.tensor(v) for k, v in np.load(file).items()}

    def __call__(self, end):
        (found,) = [v for k, v in self.tensors.items() if k.endswith(end)] or [None]
        return found


def gru_gates(x, h, weights):
    """Keras's GRU, reset after the product: x is already in gate sums."""
    U, b = weights
    z, r, g = x.chunk(3, -1)
    hz, hr, hg = (h @ U + b).chunk(3, -1)
    z, r = torch.sigmoid(z + hz), torch.sigmoid(r + hr)
    return z * h + (1 - z) * torch.tanh(g + r * hg)


class Translator:
    """Bahdanau's model with one GRU layer on each side and a maxout readout."""

    def __init__(self, w):
        self.w, self.H = w, w("decoder/bridge_0/bias").shape[0]
        shared = w("translator/embedding/embeddings")
        sides = [w(f"{side}/embedding/embeddings") for side in ("encoder", "decoder")]
        self.source, self.target = sides if shared is None else (shared, shared)
        cell = "bahdanau_cell"
        self.cell = [w(f"{cell}/cell_0/recurrent_kernel"), w(f"{cell}/cell_0/bias")[1]]
        self.kernel, self.bias = w(f"{cell}/cell_0/kernel"), w(f"{cell}/cell_0/bias")[0]
        self.context = w(f"{cell}/context_kernel")
        self.query, self.key = w("additive/query_kernel"), w("additive/key_kernel")
        self.energy = w("additive/energy")

    def read(self, x, mask, name, order):
        kernel, U, bias = (
            self.w(f"{name}/gru/{n}") for n in ("kernel", "recurrent_kernel", "bias")
        )
        sums, h, outputs = x @ kernel + bias[0], x.new_zeros(len(x), self.H), [None] * x.shape[1]
        for t in order:
            h = torch.where(mask[:, t, None], gru_gates(sums[:, t], h, (U, bias[1])), h)
            outputs[t] = torch.where(mask[:, t, None], h, 0.0)
        return torch.stack(outputs, 1), h

    def start(self, ids):
        mask, x, S = ids != 0, self.source[ids], ids.shape[1]
        forward, a = self.read(x, mask, "both_ways_0/forward", range(S))
        backward, b = self.read(x, mask, "both_ways_0/backward_forward", range(S - 1, -1, -1))
        values = torch.cat([forward, backward], -1)
        bridge = self.w("bridge_0/kernel"), self.w("bridge_0/bias")
        state = torch.tanh(torch.cat([a, b], -1) @ bridge[0] + bridge[1])
        return state, (values @ self.key, values, mask)

    def step(self, ids, h, memory):
        keys, values, mask = memory
        scores = (torch.tanh((h @ self.query)[:, None] + keys) * self.energy).sum(-1)
        weights = torch.softmax(scores.masked_fill(~mask, -1e9), -1)
        context = (weights[:, None] @ values)[:, 0]
        x = self.target[ids]
        h = gru_gates(x @ self.kernel + self.bias + context @ self.context, h, self.cell)
        t = torch.cat([h, context, x], -1) @ self.w("features/kernel") + self.w("features/bias")
        t = torch.maximum(*t.chunk(2, -1))
        if self.w("readout/kernel") is None:
            return t @ self.target.T + self.w("readout_bias"), h
        return t @ self.w("readout/kernel") + self.w("readout/bias"), h


def beam_search(model, ids, beam, alpha, length, banned):
    """The best target of each row: all hypotheses of all rows in one batch."""
    B, V = len(ids), model.target.shape[0]
    h, memory = model.start(ids)
    h, memory = (h.repeat_interleave(beam, 0), [m.repeat_interleave(beam, 0) for m in memory])
    total = torch.full((B, beam), -torch.inf)
    total[:, 0] = 0.0
    over, last = torch.zeros(B, beam, dtype=torch.bool), torch.full((B * beam,), START)
    score, written = total.clone(), torch.zeros(B, beam, 0, dtype=torch.long)
    first = torch.arange(B)[:, None] * beam
    for t in range(length):
        logits, h = model.step(last, h, memory)
        logits[:, banned] = -torch.inf
        sums = total[..., None] + torch.log_softmax(logits, -1).view(B, beam, V)
        frozen = torch.full_like(sums, -torch.inf)
        frozen[..., 0] = score
        ranked = sums / ((5 + t + 1) / 6) ** alpha
        ranked = torch.where(over[..., None], frozen, ranked).view(B, -1)
        score, chosen = ranked.topk(beam)
        rows, taken = chosen // V, chosen % V
        was = over.gather(1, rows)
        taken = torch.where(was, 0, taken)
        total = sums.view(B, -1).gather(1, chosen)
        written = torch.cat(
            [written.gather(1, rows[..., None].expand(-1, -1, t)), taken[..., None]], 2
        )
        over = was | (taken == END)
        h, last = h[(rows + first).view(-1)], taken.view(-1)
        if over.all():
            break
    return [[i for i in row if i not in (0, END)] for row in written[:, 0].tolist()]


def decoder(folder):
    """A function that translates every batch."""
    model, task = (
        Translator(Weights(f"{folder}/weights.npz")),
        json.load(open(f"{folder}/task.json")),
    )
    rules = [task[name] for name in ("beam", "alpha", "length", "banned")]

    @torch.inference_mode()
    def run():
        found = []
        for batch in task["batches"]:
            longest = max(map(len, batch))
            ids = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
            found += beam_search(model, ids, *rules)
        return {"answer": found}

    return run


class AttentionDecoder(nn.Module):
    """A GRU cell with additive attention, in a loop, as the tutorials write it."""

    def __init__(self, E, H):
        super().__init__()
        self.cell = nn.GRUCell(E + 2 * H, H)
        self.query, self.key = nn.Linear(H, H, bias=False), nn.Linear(2 * H, H, bias=False)
        self.energy = nn.Linear(H, 1, bias=False)

    def forward(self, x, values):
        h, keys, outputs = x.new_zeros(len(x), self.cell.hidden_size), self.key(values), []
        for t in range(x.shape[1]):
            scores = self.energy(torch.tanh(self.query(h)[:, None] + keys))
            context = (torch.softmax(scores, 1) * values).sum(1)
            h = self.cell(torch.cat([x[:, t], context], -1), h)
            outputs.append(h)
        return torch.stack(outputs, 1)


def trainer(B, S, T, E, H):
    """A function that does one training step."""
    model = AttentionDecoder(E, H)
    adam = torch.optim.Adam(model.parameters())
    x, values = (
        torch.randn(B, T, E, requires_grad=True),
        torch.randn(B, S, 2 * H, requires_grad=True),
    )
    target = torch.randn(B, T, H)

    def run():
        adam.zero_grad(set_to_none=True)
        loss = nn.functional.mse_loss(model(x, values), target)
        loss.backward()
        adam.step()
        return {"loss": loss.item()}

    return run


def main(kind, *arguments):
    run = decoder(*arguments) if kind == "decode" else trainer(*map(int, arguments))
    for _ in sys.stdin:
        begun = time.perf_counter()
        answer = run()
        print(json.dumps({"seconds": time.perf_counter() - begun, **answer}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
