"""Other stages in a live run: what stays continues, what cannot be used leaves all as it is."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from rtface.config.options import Options
from rtface.errors import RestartNeeded, UsageError
from rtface.live.control.control_routes import control_routes
from rtface.live.control.http_server import LocalHttpServer
from rtface.live.controls import LiveControls
from rtface.live.frame_filters import FrameFilters
from rtface.stats import Stats
from tests.live.live_fakes import FakeEnhance, PlainView, ask, frame, luma_of
from tests.live.test_frame_loop import Rig
from tests.stages import trial_stages

BAR, OTHER = "trial_stages.Bar:height=4", "trial_stages.Bar:height=4,red=0"


@pytest.fixture(autouse=True)
def short_names(monkeypatch):
    monkeypatch.setitem(sys.modules, "trial_stages", trial_stages)
    trial_stages.closed.clear()
    trial_stages.begun.clear()


def begun(*stages, recorded=False):
    return FrameFilters(Options(stages=stages), Stats(), recorded=recorded)


def test_stages_change_between_frames_and_what_stays_goes_on():
    filters = begun(BAR)
    assert luma_of(filters.after(frame(1, luma=100))) != 100
    kept = filters.stages.stages[0]
    filters.change([OTHER, BAR])
    assert filters.stages.stages[1] is kept and len(trial_stages.begun) == 2 and not trial_stages.closed
    assert trial_stages.begun[1].live and trial_stages.begun[1].origin > trial_stages.begun[0].origin
    filters.change([])
    assert filters.drawn == () and trial_stages.closed == ["bar", "bar"] and not filters.needs_faces
    assert luma_of(filters.after(frame(2, luma=100))) == 100
    filters.close()
    assert trial_stages.closed == ["bar", "bar"]


@pytest.mark.parametrize(
    "wanted",
    [[BAR, "trial_stages.Bar:high=1"], [BAR, "no-such-stage"], ["trial_stages.Bar:height=tall"], "trial_stages.Bar"],
    ids=str,
)
def test_what_cannot_be_used_changes_nothing(wanted):
    filters = begun(BAR)
    now = filters.stages
    with pytest.raises(UsageError):
        filters.change(wanted)
    assert filters.stages is now and filters.drawn == (BAR,) and not trial_stages.closed
    assert luma_of(filters.after(frame(1, luma=100))) != 100


def test_a_frame_older_than_a_stage_passes_it():
    filters = begun()
    came = filters.before(frame(1, luma=100), None, ())
    filters.change(["trial_stages.Needs"])
    trial_stages.seen.clear()
    assert luma_of(filters.after(came)) == 100 and not trial_stages.seen
    filters.after(filters.before(frame(2), None, ()))
    assert len(trial_stages.seen) == 1
    filters.close()


def test_where_a_stage_hides_faces_the_tracker_watches():
    pytest.importorskip("rtface_overlays")
    filters = begun()
    enhance = FakeEnhance()
    enhance.runtime.device.view = lambda frame: PlainView()
    for stages, watchful in ((["blur"], True), ([], False)):
        filters.change(stages)
        rig = Rig(enhance=enhance, filters=filters)
        rig.run([frame(1)])
        assert rig.tracker.watchful is watchful


def test_a_recording_gets_no_stage_that_it_does_not_name():
    filters = begun(BAR, recorded=True)
    filters.change([OTHER])  # the same stage, changed
    with pytest.raises(RestartNeeded, match=r"the recording's metadata .*\.Needs .* start the run again"):
        filters.change([OTHER, "trial_stages.Needs"])
    filters.change([])
    filters.change([BAR])
    filters.close()


def test_a_stage_that_a_policy_sets_stays(tmp_path, monkeypatch):
    (tmp_path / "policy.toml").write_text(f'stages = ["{OTHER}"]\n')
    monkeypatch.setattr("rtface.config.policy.site_path", lambda: tmp_path / "policy.toml")
    filters = begun()
    filters.change([BAR])
    assert filters.drawn == (BAR, OTHER)


def test_files_need_the_key_and_own_classes_are_refused(tmp_path):
    pytest.importorskip("rtface_overlays")
    logo = tmp_path / "logo.png"
    cv2.imwrite(str(logo), np.full((8, 8, 3), 200, np.uint8))
    filters = begun(BAR)

    def post(stages, key="", **headers):
        server = LocalHttpServer(
            control_routes(SimpleNamespace(controls=LiveControls(), snapshot=dict), None, filters, files=bool(key)),
            port=0,
            key=key,
        )
        found = ask(server.server_port, "POST", "/stages", json.dumps({"stages": stages}), **headers)
        server.close()
        return found

    picture = f"picture:file={logo},at=top"
    for stages in ([OTHER], [picture], ["label:font=/etc/font.ttf"], "label", [1], None):
        assert post(stages)[0] == 400
    assert post([BAR], "secret", authorization="Bearer wrong")[0] == 401
    assert filters.drawn == (BAR,)
    post([BAR, "label:text=On air"])
    assert filters.drawn == (BAR, "label:text=On air")
    assert picture in post([picture], "secret", authorization="Bearer secret")[1]["stages"]
    filters.close()
