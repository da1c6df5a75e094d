"""The kernels on the card against the CPU device: the tests that the host's kernels pass, run by the card."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("av", reason="the frames of these tests are PyAV's")

# ruff: noqa: F401
from test_batch_kernels import test_batches_are_filled_and_emptied
from test_kernels import (
    test_a_common_crop_is_one_launch,
    test_crops_are_those_of_the_cpu,
    test_crops_are_turned_mirrored_and_of_one_field,
    test_crops_may_lie_apart,
    test_crops_of_odd_sizes,
    test_crops_outside_the_picture_repeat_its_edge,
    test_hdr_goes_through_the_curve,
    test_shrunk_crops_are_filtered_as_on_the_cpu,
)
from test_kernels_paste import (
    test_a_common_paste_is_one_launch,
    test_a_crowd_in_one_frame,
    test_a_dot_lands_in_its_place,
    test_a_gray_film_keeps_its_chroma,
    test_faces_of_different_sizes_go_together,
    test_hdr_corrections_go_back_through_the_slope,
    test_low_bits_of_a_shifted_word_stay,
    test_no_correction_changes_nothing,
    test_overlapping_faces_share_a_sample,
    test_pastes_are_those_of_the_cpu,
    test_pastes_are_turned_mirrored_and_in_one_field,
    test_pastes_of_every_size,
    test_pastes_of_odd_sizes,
    test_samples_outside_the_masks_stay_bit_for_bit,
    test_strong_corrections_are_clipped_to_what_is_legal_or_was_there,
    test_what_is_not_finite_is_not_written,
)
from test_shape_kernels import (
    test_a_small_mask_is_enlarged_on_the_card,
    test_corrections_are_the_cpus,
    test_faces_of_several_sides_in_one_launch,
    test_figures,
    test_what_is_not_a_number_is_found_wherever_it_lies,
)


@pytest.fixture(name="host")
def _host(card_kernels: Any) -> Any:
    card_kernels.clear()
    return card_kernels


@pytest.fixture(name="shaper")
def _shaper(host: Any) -> Any:
    return host


@pytest.fixture(name="batcher")
def _batcher(host: Any) -> Any:
    return host
