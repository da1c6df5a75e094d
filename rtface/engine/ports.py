"""The tensors of a recipe's network by name, each with its shape for one crop (without the batch)."""

from __future__ import annotations

from rtface.engine.recipe import Recipe

Shapes = dict[str, tuple[int, ...]]


def inputs_of(recipe: Recipe) -> Shapes:
    """What the network takes: the picture, and of a recurrent one what it remembers."""
    *_, w, h = recipe.region
    shapes: Shapes = {recipe.input.name: (3, h, w)}
    if (memory := recipe.memory) is not None:
        past = (3, h // recipe.shrink, w // recipe.shrink)
        shapes |= {memory.past: past, memory.known: (1, 1, 1)}
        if recipe.shrink > 1:
            shapes[memory.shrunk] = past
        if memory.shape:
            shapes[memory.state] = memory.shape
    return shapes


def outputs_of(recipe: Recipe) -> Shapes:
    """What it gives: the picture (or what to add to it), and of a recurrent one what to remember and its heads."""
    *_, w, h = recipe.region
    shapes: Shapes = {recipe.output.name: (3, h, w)}
    if (memory := recipe.memory) is not None:
        if recipe.shrink > 1:
            shapes[memory.kept] = (3, h // recipe.shrink, w // recipe.shrink)
        if memory.shape:
            shapes[memory.next] = memory.shape
        if memory.heads:
            shapes |= {memory.occlusion: (1, *memory.maps), memory.log_scale: (1, *memory.maps)}
    return shapes
