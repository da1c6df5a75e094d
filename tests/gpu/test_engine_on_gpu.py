"""Engines on the GPU that is here: batches of every size, and memories."""

from typing import Any

import pytest

from rtface.engine.golden import load_golden, psnr
from rtface.engine.recipe import find_recipes, load_recipe
from tests.device.cuda.gpu_rig import hold
from tests.engine.cuda.test_gpu_engine import (  # noqa: F401
    Bench,
    bench,
    test_the_loop_reserves_nothing_and_memories_are_used_again,
    test_what_comes_after_a_failure_begins_without_memory,
)
from tests.gpu.real_gpu import REHEARSAL, gpu_plan, open_engine

SHIPPED = ("rtface-s", "rtface-m", "rtface-m-vivid")


@pytest.mark.parametrize("name", SHIPPED)
def test_golden_crops_in_batches_of_every_size(streams, bench, name):  # noqa: F811
    recipe = load_recipe(find_recipes()[name])
    plan, verdict = gpu_plan(streams, recipe)
    engine, noted = open_engine(streams, name, plan=(plan, verdict))
    captured = len(engine.batches.graphs)
    print(f"{engine.reason}; batches of up to {engine.max_batch}, {captured} of them graphs; {engine.ms} ms a crop")
    least = getattr(recipe.golden.psnr, engine.precision)
    (firsts, first_answers), (seconds, second_answers) = load_golden(recipe), load_golden(recipe, "next_")
    faces = bench(engine.size, engine.max_batch)
    sizes = range(1, engine.max_batch + 1) if not REHEARSAL else (1, 3, engine.max_batch)
    for count in sizes:
        chosen = [(count + n) % len(firsts) for n in range(count)]
        before: list[Any] = [None] * count
        for crops, answers in ((firsts, first_answers), (seconds, second_answers)):
            faces.put([crops[k] for k in chosen] + [crops[0]] * (engine.max_batch - count))
            gate = hold(streams)
            before = [engine.submit(face, after) for face, after in zip(faces.faces, before, strict=False)]
            gate.set()
            for promise in before:
                promise.result(60)
            worst = min(psnr(faces.get(face), answers[k]) for face, k in zip(faces.faces, chosen, strict=False))
            assert worst >= least, (count, worst)
    assert noted.batches == [n for n in sizes for _ in range(2)]
    engine.close()
