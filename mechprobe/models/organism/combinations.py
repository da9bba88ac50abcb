"""Combinations of an indicator and a frame that can be kept out of the fit split: one frame of each attitude for each."""

from dataclasses import replace

import numpy as np

from mechprobe.models.organism.vocabulary import INDICATORS, Frame, frames
from mechprobe.models.organism.world import Clause, Scene


def held_out_frame(indicator: str, *, endorses: bool) -> Frame:
    """The frame that this indicator has only in the held-out split."""
    choices = frames(endorses=endorses, use="seen")
    return choices[INDICATORS.index(indicator) % len(choices)]


def into_held_out(scene: Scene) -> Scene:
    """The scene with all its indicator clauses under their held-out frames; nothing else changes."""
    return replace(scene, clauses=tuple(_into(clause) for clause in scene.clauses))


def out_of_held_out(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with another frame of the same attitude wherever a clause stands under its held-out frame."""
    return replace(scene, clauses=tuple(_out(clause, rng) for clause in scene.clauses))


def _into(clause: Clause) -> Clause:
    if not clause.indicator:
        return clause
    return replace(clause, frame=held_out_frame(clause.indicator, endorses=clause.frame.endorses))


def _out(clause: Clause, rng: np.random.Generator) -> Clause:
    if not clause.indicator:
        return clause
    endorses = clause.frame.endorses
    held_out = held_out_frame(clause.indicator, endorses=endorses)
    if clause.frame != held_out:
        return clause
    others = [frame for frame in frames(endorses=endorses, use="seen") if frame != held_out]
    return replace(clause, frame=others[int(rng.integers(len(others)))])
