"""``rtface run`` around the pipeline: arguments, several inputs, exit codes, what goes where."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rtface._version import __version__
from rtface.cli.app import app
from rtface.cli.film_jobs import output_name
from rtface.errors import InputError, Interrupted, OutputError, UsageError
from rtface.report import Report


def invoke(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert "Traceback" not in result.stderr
    return result


def good(input, output, options, stop):
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    Path(output).write_bytes(b"film")
    return Report(str(input), str(output), __version__, "rtface-m", "cpu", frames_in=3, frames_out=3)


def test_version_and_help():
    assert invoke("--version").stdout == f"rtface {__version__}\n"
    assert "analyze" in invoke("-h").stdout
    assert "--treatment" in (said := invoke("run", "--help").stdout) and "--colour" in said


def test_flags_reach_the_pipeline_and_stdout_stays_empty(pipeline, tmp_path):
    calls = pipeline(good)
    flags = shlex.split("--strength 0.5 --grain none --color lock --start 1:00 --end 61.5 --no-overwrite --max-faces 3")
    result = invoke("run", "a.mp4", tmp_path / "b.mkv", *flags)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "b.mkv: 3 frames" in result.stderr
    ((input, output, options),) = calls
    assert (input, output) == (Path("a.mp4"), tmp_path / "b.mkv")
    assert (options.strength, options.grain, options.start, options.end) == (0.5, "none", 60.0, 61.5)
    assert options.max_faces == 3
    assert options.overwrite is False


def test_json_prints_the_report_alone_on_stdout(pipeline, tmp_path):
    pipeline(good)
    result = invoke("run", "a.mp4", tmp_path / "b.mkv", "--json")
    report = json.loads(result.stdout)
    assert report["status"] == "done"
    assert report["frames_out"] == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.mp4"], "add an OUTPUT"),
        (["a.mp4", "b.mp4", "c.mp4"], "--output-dir"),
        (["a.mp4", "b.mp4", "--strength", "3"], "the nearest is 1"),
        (["a.mp4", "b.mp4", "--start", "soon"], "HH:MM:SS.mmm"),
        (["a.mp4", "b.mp4", "--config", "absent.toml"], "absent.toml"),
        (["a.mp4", "b.mp4", "--grain", "mach"], "the nearest is match"),
        (["a.mp4", "x/a.mp4", "--output-dir", "out"], "both become"),
        (["a.mp4", "b.mp4", "--output-dir", "out", "--compare", "c.mp4"], "--compare is a single file"),
        (["a.mp4", "b.mp4", "--strenght", "1"], "--strength"),
        (["a.mp4", "https://host/live"], "publishes over rtmp"),
        (["camera:0"], "rtface run camera:0 vcam:"),
        (["camera:0", "camera:1"], "use a virtual camera (vcam:)"),
        (["a.mp4", "env:RTFACE_NOT_SET"], "is not set"),
    ],
)
def test_usage_errors_are_2_and_name_the_way_out(pipeline, arguments, says):
    calls = pipeline(good)
    result = invoke("run", *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stdout == ""
    assert not calls


def fail_with(error):
    def answer(*_):
        raise error

    return answer


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (InputError("a.mp4 is empty"), 1, "error: a.mp4 is empty"),
        (OutputError("two\nlines"), 1, "error: two lines"),
        (UsageError("no such engine"), 2, "error: no such engine"),
        (PermissionError(13, "Permission denied", "a.mp4"), 1, "a.mp4: Permission denied"),
        (MemoryError(), 1, "not enough memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (
            Interrupted("stopped; continue with --start 0:01:01.500", signum=15),
            143,
            "error: stopped; continue with --start 0:01",
        ),
        (Interrupted("stopped after 3 of 10 pictures"), 130, "error: stopped after 3 of 10 pictures\n"),
        (ZeroDivisionError("division by zero"), 1, "this is a fault of rtface or a plugin (ZeroDivisionError"),
    ],
)
def test_every_error_is_one_line_and_its_exit_code(pipeline, error, code, says):
    pipeline(fail_with(error))
    result = invoke("run", "a.mp4", "b.mp4")
    assert result.exit_code == code
    assert says in result.stderr
    assert result.stdout == ""


def test_a_fault_of_ours_shows_its_traceback_only_with_v(pipeline):
    pipeline(fail_with(ZeroDivisionError("here")))
    result = CliRunner().invoke(app, ["run", "a.mp4", "b.mp4", "-v"])
    assert "Traceback" in result.stderr
    assert "rtface doctor" in result.stderr


def test_a_batch_continues_after_a_bad_input_and_skips_done(pipeline, tmp_path):
    (tmp_path / "done.mp4").write_bytes(b"finished")

    def answer(input, output, options, stop):
        if input.name == "bad.mp4":
            raise InputError("bad.mp4 is empty")
        return good(input, output, options, stop)

    calls = pipeline(answer)
    result = invoke("run", "done.mp4", "bad.mp4", "good.flv", "--output-dir", tmp_path, "--json")
    assert result.exit_code == 1
    assert [call[0].name for call in calls] == ["bad.mp4", "good.flv"]
    assert (tmp_path / "good.mkv").exists()
    assert (tmp_path / "done.mp4").read_bytes() == b"finished"
    assert "1 done, 1 skipped, 1 failed" in result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["status"] for line in lines] == ["skipped", "failed", "done"]


def test_the_inputs_folder_is_no_output_dir(pipeline, tmp_path):
    calls = pipeline(good)
    for name in ("a.mp4", "b.mp4", "c.flv"):
        (tmp_path / name).write_bytes(b"film")
    (tmp_path / "other").mkdir()
    for named in (["a.mp4"], ["a.mp4", "b.mp4"], ["c.flv", "b.mp4"]):
        for overwrite in ([], ["--overwrite"]):
            result = invoke("run", *[tmp_path / name for name in named], "--output-dir", tmp_path, *overwrite)
            assert result.exit_code == 2 and "choose another folder" in result.stderr
    assert not calls and (tmp_path / "a.mp4").read_bytes() == b"film"
    assert invoke("run", tmp_path / "c.flv", "--output-dir", tmp_path).exit_code == 0


def test_a_folder_of_stills_becomes_a_folder_or_a_film(tmp_path):
    (tmp_path / "stills").mkdir()
    assert output_name(tmp_path / "stills") == "stills"
    assert output_name(tmp_path / "stills", sequence=True) == "stills.mp4"


def test_dry_run_says_that_nothing_was_written(pipeline, tmp_path):
    def plan(input, output, options, stop):
        assert options.dry_run
        return Report(str(input), None, __version__, "rtface-m", "cpu", notes=["sound: copied"])

    pipeline(plan)
    result = invoke("run", "a.mp4", tmp_path / "b.mp4", "--dry-run", "--json")
    assert result.exit_code == 0 and json.loads(result.stdout)["status"] == "planned"
    assert "sound: copied" in result.stderr
    assert "not written" in result.stderr


def test_the_output_folder_is_made_but_not_left_by_a_dry_run(pipeline, tmp_path):
    def answer(input, output, options, stop):
        assert output.parent.is_dir()
        return Report(str(input), None, __version__, "rtface-m", "cpu")

    pipeline(answer)
    folder = tmp_path / "new" / "folder"
    assert invoke("run", "a.mp4", "--output-dir", folder, "--dry-run").exit_code == 0
    assert not folder.parent.exists()
    assert invoke("run", "a.mp4", "--output-dir", folder).exit_code == 0
    assert folder.is_dir()


def test_an_output_folder_that_cannot_be_made(pipeline, tmp_path):
    calls = pipeline(good)
    (tmp_path / "file").write_text("")
    for name in ("file", "file/below"):
        result = invoke("run", "a.mp4", "--output-dir", tmp_path / name)
        assert result.exit_code == 1 and str(tmp_path / "file") in result.stderr
    assert not calls


def test_a_stopped_batch_says_how_each_goes_on(pipeline, tmp_path):
    def answer(input, output, options, stop):
        if input.name == "b c.mp4":
            error = Interrupted(f"interrupted; the finished part is in {output}; continue with --start 0:00:07.050")
            error.partial, error.resume_at = str(output), 7.05
            raise error
        return good(input, output, options, stop)

    calls = pipeline(answer)
    result = invoke("run", "a.mp4", "b c.mp4", "d.mp4", "--output-dir", tmp_path)
    assert result.exit_code == 130 and len(calls) == 2
    assert "continue with --start 0:00:07.050" in result.stderr
    assert "1 done, 0 skipped, 1 failed, 1 not started" in result.stderr


def test_film_options_apply_to_the_films_among_the_inputs(pipeline, tmp_path):
    calls = pipeline(good)
    still, film = tmp_path / "a.png", tmp_path / "b.mp4"
    still.write_bytes(b"\x89PNG\r\n\x1a\n"), film.write_bytes(b"film")
    alone = invoke("run", still, tmp_path / "out.png", "--drop", "audio")
    assert alone.exit_code == 2 and "--drop has no effect here: it is for films" in alone.stderr
    assert not calls
    assert invoke("run", still, film, "--output-dir", tmp_path / "out", "--drop", "audio").exit_code == 0
    assert len(calls) == 2
