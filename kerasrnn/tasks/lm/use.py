"""Text from whatever holds a language model: a run folder, an ONNX file or a SavedModel."""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np

from kerasrnn.base.errors import InputError, check_texts
from kerasrnn.export.runner import GRAPH
from kerasrnn.tasks.lm.task import GENERATION, TASK
from kerasrnn.tasks.opening import load_for, open_model
from kerasrnn.tasks.settings import as_option
from kerasrnn.tasks.using import Answers

UNKNOWN = "\ufffd"


def answers(options, refuse) -> Answers:
    """Go on with each prompt; see `kerasrnn.tasks.task`."""
    prompts = options.prompt or [""]
    if options.prompt and "" in prompts:
        raise InputError(
            "--prompt", "some text", "an empty string", "leave --prompt out to begin from nothing"
        )
    names = ("length", "temperature", "top_k", "top_p", "seed")
    if options.suggest is not None:
        known = {option.name: option.default for option in GENERATION}
        for name in names:
            if getattr(options, name) != known[name]:
                typed = as_option(name)
                raise InputError(typed, "no --suggest beside it", "both", f"leave {typed} out")
        return suggestions(options.model, prompts, options.suggest)
    texts = generate(options.model, prompts, **{name: getattr(options, name) for name in names})
    pairs = zip(prompts, texts, strict=True)
    return (({"prompt": prompt, "text": text}, text) for prompt, text in pairs)


def suggestions(model: str, prompts: list[str], count: int) -> Answers:
    """The likeliest words at the end of each prompt, from a run folder.

    Raises:
        InputError: when the model or an argument cannot be used.
    """
    if not Path(model).is_dir() or (Path(model) / GRAPH).exists():
        expected = "a run folder beside it: an export does not say how likely a word is"
        raise InputError("--suggest", expected, model, "give the run")
    language_model = load_for(model, TASK)
    for prompt in prompts:
        found = language_model.suggest(prompt, count)
        words, shares = [word for word, _ in found], [share for _, share in found]
        lines = [f"{word}\t{share:.3f}" for word, share in found]
        yield {"prompt": prompt, "word": words, "probability": shares}, "\n".join(lines)


def generate(
    model: str,
    prompts: list[str],
    *,
    length: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int | None,
) -> list[str]:
    """Go on with each prompt; arguments as `LanguageModel.generate`.

    An ONNX file needs onnxruntime alone: TensorFlow is not even imported.

    Raises:
        InputError: when the model or an argument cannot be used, or a prompt has text that the
            model does not know.
    """
    _check(length, temperature, top_k, top_p)
    check_texts("--prompt", prompts)  # the shell's bytes that were not UTF-8 are surrogates
    seed = random.SystemRandom().randrange(2**31) if seed is None else seed
    if not 0 <= seed < 2**31:
        raise InputError("--seed", "0 to 2147483647", seed, "give one of them")
    values = {
        "prompt": np.array(prompts, object),
        "max_length": np.array(length, np.int32),
        "temperature": np.array(temperature, np.float32),
        "top_k": np.array(top_k, np.int32),
        "top_p": np.array(top_p, np.float32),
        "seed": np.array(seed, np.int32),
    }
    texts = [str(text) for text in open_model(model, TASK)(values)["text"]]
    for prompt, text in zip(prompts, texts, strict=True):
        _check_known(prompt, text)
    return texts


def _check_known(prompt: str, text: str) -> None:
    """An unknown token is never drawn, so a mark in the text can only come from the prompt."""
    if UNKNOWN in text:
        read = text[: max(len(prompt), text.rindex(UNKNOWN) + 1)]
        raise InputError(
            "--prompt",
            "text that the model knows",
            f"{prompt!r}, which it reads as {read!r}",
            f"leave out what stands as {UNKNOWN}",
        )


def _check(length: int, temperature: float, top_k: int, top_p: float) -> None:
    for name, value, good, expected in (
        ("--length", length, 1 <= length < 2**31, "1 to 2147483647"),
        ("--temperature", temperature, 0 <= temperature < math.inf, "0 or more, finite"),
        ("--top-k", top_k, 0 <= top_k < 2**31, "0 to 2147483647"),
        ("--top-p", top_p, 0 < top_p <= 1, "above 0 and at most 1"),
    ):
        if not good:
            raise InputError(name, expected, value, "correct it")
