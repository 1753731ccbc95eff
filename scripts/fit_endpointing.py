"""Fit the end-of-turn weights: `python scripts/fit_endpointing.py`.

Reads scripts/endpointing.csv.gz (scripts/make_endpointing.py makes it), writes
assistant/endpointing.json, and prints what each signal is worth. Everything is deterministic.
"""

from __future__ import annotations

import argparse
import base64
import csv
import gzip
import json
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from assistant.endpointing import Model, Pause, Profile, signals
from assistant.endpointing import evidence as log_odds
from speech.prosody import Prosody

HERE = Path(__file__).parent
TABLE = HERE / "endpointing.csv.gz"
WEIGHTS = HERE.parent / "assistant" / "endpointing.json"
READOUT = HERE.parent / "speech" / "endpoint.json"
LAYER_STEP = 1 / 24
"""Of the bytes in the table's column `layer`."""

Floats = NDArray[np.float64]

SILENCES = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3, 1.6, 2.0)
"""Seconds after the end of speech at which a pause is looked at, while it lasts."""
RIDGE, READOUT_RIDGE = 0.3, 300.0
"""Precision of the Gaussian prior with mean 0 of the weights, and of the readout's weights of
standardised values: those are 256, from some hundred pauses."""
FOLDS = 5
BLIND = 0.15
"""Weight, beside the full one, of each pause seen without its words, its sound, or its prosody."""
MIDDLE = (0.8, 1.5)
"""The pauses inside a sentence, in seconds, that must not end a turn."""
STEEP = 1.5
"""Shortens the median silence at as many cut-ins and the same mean (docs/endpointing.md)."""
TARGETS = {"quick": (0.12, 0.15, 1.5), "normal": (0.09, 0.4, 1.8), "patient": (0.013, 0.5, 5.0)}
"""Each profile's share of such pauses cut into, least and most silence."""
PROSODY = tuple(field.name for field in fields(Prosody))
GROUPS = {
    "Smart Turn": "complete complete_alone",
    "prosody": "drop coda",
    "the last mark": "question unmarked trailing",
    "the last words": "hanging leaning wanting",
    "the sentence's shape": "opened listing helpless",
    "numerals": "unit half_number",
    "length in words": "empty short long more",
    "what was asked": "answer closed which invited numeric half_number",
    "own pauses": "own",
    "the language model": "ends unrated",
}


@dataclass(frozen=True, slots=True)
class Example:
    """A pause, and what came of it."""

    pause: Pause
    over: bool
    sentence: bool
    """Whether a sentence was finished here."""
    length: float
    """Seconds of the pause; 0 where the turn was over."""
    fold: int
    own: float
    """Smart Turn's own P(the turn is over); the pause's is the readout's."""


@dataclass(frozen=True, slots=True)
class Data:
    train: list[Example]
    tune: list[Example]
    test: list[Example]
    readout: list[float]
    """What speech/endpoint.json must hold."""


def read() -> Data:
    """The table. The readout is fitted on the training set; there each pause is given the answer
    of one that was fitted without its sentence, as the model must not trust it too far."""
    with gzip.open(TABLE, "rt", encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    layers = np.array([np.frombuffer(base64.b64decode(row["layer"]), np.int8) for row in rows])
    layers = layers * LAYER_STEP
    over = np.array([float(row["over"]) for row in rows])
    train = np.array([row["subset"] == "train" for row in rows])
    # A pause between two sentences sounds like an end, and is none: nothing to learn here.
    clear = np.array([row["over"] == "1" or row["sentence"] == "0" for row in rows])
    # Further pauses whose words nobody read, for the readout alone.
    sound = [row["kind"] == "sound" for row in rows]
    folds = np.array([int(row["turn"], 16) % FOLDS for row in rows])
    readout = _readout(layers[train & clear], over[train & clear])
    chances = _chances(layers, readout)
    for fold in range(FOLDS):
        held = train & (folds == fold)
        others = train & clear & (folds != fold)
        chances[held] = _chances(layers[held], _readout(layers[others], over[others]))
    made = [_example(row, chance) for row, chance in zip(rows, chances.tolist(), strict=True)]
    sets = ([e for e, row, bare in zip(made, rows, sound, strict=True)
             if row["subset"] == name and not bare]
            for name in ("train", "tune", "test"))  # fmt: skip
    return Data(*sets, readout.tolist())


def _readout(layers: Floats, over: Floats) -> Floats:
    """The constant and a weight for each value of `layers`, shape (n, 256)."""
    middle, spread = layers.mean(axis=0), layers.std(axis=0) + 0.01
    inputs = np.c_[np.ones(len(layers)), (layers - middle) / spread]
    weights = _newton(inputs, over, np.ones(len(layers)), READOUT_RIDGE)
    scaled = weights[1:] / spread
    return np.round(np.r_[weights[0] - scaled @ middle, scaled], 4)


def _chances(layers: Floats, readout: Floats) -> Floats:
    return 1 / (1 + np.exp(-(layers @ readout[1:] + readout[0])))


def _example(row: dict[str, str], completeness: float) -> Example:
    return Example(
        pause=Pause(
            completeness=completeness,
            text=row["heard"],
            speech=float(row["speech"]),
            prosody=Prosody(*(float(row[name]) for name in PROSODY)),
            asked=row["asked"],
            own_pauses=tuple(float(value) for value in row["own"].split()),
            ends=float(row["ends"]) if row["ends"] else None,
        ),
        over=row["over"] == "1",
        sentence=row["sentence"] == "1",
        length=float(row["length"]),
        fold=int(row["turn"], 16) % FOLDS,
        own=float(row["completeness"]),
    )


# --- fitting ------------------------------------------------------------------------------


def fit(examples: list[Example], without: frozenset[str] = frozenset()) -> Model:
    """The weights, but for those of the signals in `without`, and no profiles."""
    names = [name for name in signals(examples[0].pause) if name not in without]
    inputs, targets, counts = [], [], []
    for example in examples:
        for pause, count in _views(example.pause):
            found = signals(pause)
            values = [found.get(name, 0.0) for name in names]
            for silence in SILENCES:
                if example.over or silence < example.length:
                    inputs.append([*values, math.log(silence)])
                    targets.append(float(example.over))
                    counts.append(count)
    counted = np.array(counts) / len(SILENCES)
    weights = _newton(np.array(inputs), np.array(targets), counted, RIDGE)
    rounded = [round(float(weight), 3) for weight in weights]
    return Model(rounded[-1], STEEP, dict(zip(names, rounded[:-1], strict=True)))


def _views(pause: Pause) -> list[tuple[Pause, float]]:
    """The pause as it is known in the end, and, with less weight, as it is known before."""
    return [
        (pause, 1.0),
        (replace(pause, ends=None), BLIND),
        (replace(pause, text=None, ends=None), BLIND),
        (replace(pause, completeness=None), BLIND),
        (replace(pause, text=None, ends=None, prosody=None), BLIND),
    ]


def _newton(inputs: Floats, targets: Floats, counts: Floats, ridge: float) -> Floats:
    """The weights of largest posterior, by Newton's method; the prior spares none, as even the
    first, that of the constant, is small."""
    weights = np.zeros(inputs.shape[1])
    for _ in range(25):
        chance = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (counts * (targets - chance)) - ridge * weights
        bend = (inputs * (counts * chance * (1 - chance))[:, None]).T @ inputs
        step = np.linalg.solve(bend + ridge * np.eye(len(weights)), slope)
        weights += step
        if np.abs(step).max() < 1e-9:
            break
    return weights


# --- judging ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    log_loss: float
    """Mean over pauses and the silences in them."""
    in_order: float
    """Share of pairs of a finished turn and a pause inside a sentence that are told apart."""
    cut_in: float
    """Share of pauses of MIDDLE seconds inside a sentence that are cut into."""
    cut_in_between: float
    """The same between two sentences of a turn."""
    median: float
    p95: float
    """Seconds of silence that finished turns wait for."""


def evidence(examples: list[Example], model: Model) -> Floats:
    """Log odds, but for the silence, of each example."""
    return np.array([log_odds(example.pause, model) for example in examples])


def needed(known: Floats, silence: float | Floats, profile: Profile) -> Floats:
    """Seconds of silence for each log odds in `known`, of models with the weight `silence`."""
    wanted = math.log(profile.sure / (1 - profile.sure))
    return np.clip(np.exp(STEEP * (wanted - known) / silence), profile.least, profile.most)


def cut_in(seconds: Floats) -> float:
    """Share of pauses, evenly spread over MIDDLE, that are longer than the silences needed."""
    low, high = MIDDLE
    return float(np.clip((high - seconds) / (high - low), 0, 1).mean()) if seconds.size else 0.0


def judge(examples: list[Example], model: Model, profile: Profile) -> Figures:
    over = np.array([example.over for example in examples])
    sentence = np.array([example.sentence for example in examples])
    known = evidence(examples, model)
    seconds = needed(known, model.silence, profile)
    inside = ~over & ~sentence
    return Figures(
        log_loss=_log_loss(examples, known, model),
        in_order=float((known[over][:, None] > known[inside]).mean()),
        cut_in=cut_in(seconds[inside]),
        cut_in_between=cut_in(seconds[~over & sentence]),
        median=float(np.median(seconds[over])),
        p95=float(np.percentile(seconds[over], 95)),
    )


def _log_loss(examples: list[Example], known: Floats, model: Model) -> float:
    losses = []
    for example, before in zip(examples, known, strict=True):
        for silence in SILENCES:
            if example.over or silence < example.length:
                odds = before + model.silence * math.log(silence)
                losses.append(math.log1p(math.exp(-odds if example.over else odds)))
    return float(np.mean(losses))


def tuned(data: Data, model: Model, without: frozenset[str] = frozenset()) -> dict[str, Profile]:
    """For each profile the least `sure` that keeps its share of cut-ins into pauses that were
    not fitted on: the tune set's, and the training set's by models without those sentences."""
    judged = [(data.tune, model)]
    for fold in range(FOLDS):
        others = [example for example in data.train if example.fold != fold]
        held = [example for example in data.train if example.fold == fold]
        judged.append((held, fit(others, without)))
    known, silence = [], []
    for examples, judge_of in judged:
        inside = [example for example in examples if not example.over and not example.sentence]
        known.append(evidence(inside, judge_of))
        silence.append(np.full(len(inside), judge_of.silence))
    odds, slopes = np.concatenate(known), np.concatenate(silence)
    found = {}
    for name, (share, least, most) in TARGETS.items():
        steps = (Profile(step / 1000, least, most) for step in range(300, 1000))
        found[name] = next(
            profile for profile in steps if cut_in(needed(odds, slopes, profile)) <= share
        )
    return found


def fitted(data: Data) -> Model:
    """What assistant/endpointing.json must hold."""
    model = fit(data.train)
    return Model(model.silence, model.steep, model.weights, tuned(data, model))


# --- the report ---------------------------------------------------------------------------


def worth(data: Data) -> Table:
    """With and without each signal, at the `normal` profile tuned for each."""
    table = Table("signals", "log loss", "in order", "cut-ins", "between", "median s", "p95 s",
                  title=f"test set, {len(data.test)} pauses")  # fmt: skip
    _row(table, "all", data, frozenset())
    for name, names in GROUPS.items():
        _row(table, f"without {name}", data, frozenset(names.split()))
    own = Data(_own(data.train), _own(data.tune), _own(data.test), [])
    _row(table, "Smart Turn's own answer", own, frozenset())
    return table


def _own(examples: list[Example]) -> list[Example]:
    return [
        replace(example, pause=replace(example.pause, completeness=example.own))
        for example in examples
    ]


def _row(table: Table, name: str, data: Data, without: frozenset[str]) -> None:
    model = fit(data.train, without)
    table.add_row(name, *_cells(judge(data.test, model, tuned(data, model, without)["normal"])))


def profiles(data: Data, model: Model) -> Table:
    table = Table("profile", "log loss", "in order", "cut-ins", "between", "median s", "p95 s")
    for name, profile in model.profiles.items():
        table.add_row(f"{name}, sure {profile.sure}", *_cells(judge(data.test, model, profile)))
    return table


def _cells(figures: Figures) -> list[str]:
    return [
        f"{figures.log_loss:.3f}",
        f"{100 * figures.in_order:.1f} %",
        f"{100 * figures.cut_in:.1f} %",
        f"{100 * figures.cut_in_between:.1f} %",
        f"{figures.median:.2f}",
        f"{figures.p95:.2f}",
    ]


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    console, data = Console(width=100), read()
    model = fitted(data)
    WEIGHTS.write_bytes(msgspec.json.format(msgspec.json.encode(model), indent=1) + b"\n")
    READOUT.write_text(json.dumps(data.readout) + "\n")
    console.print(profiles(data, model))
    console.print(worth(data))


if __name__ == "__main__":
    main()
