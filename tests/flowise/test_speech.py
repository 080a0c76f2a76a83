from __future__ import annotations

from pathlib import Path
from time import process_time

import pytest

from gateway.flowise.outcome import Outcome, of_speech
from gateway.flowise.speech import SpeechObserver, speech_error

CAPTURES = Path(__file__).parents[1] / "captures"


def events(name):
    """The body of a capture without its chunks."""
    rest, body = (CAPTURES / f"{name}.raw").read_bytes().partition(b"\r\n\r\n")[2], b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


def seen(*reads):
    observer = SpeechObserver()
    for at, data in enumerate(reads, 1):
        observer.feed(data, float(at))
    return observer


@pytest.mark.parametrize(
    ("name", "counts", "outcome"),
    [
        ("speech", {"tts_start": 1, "tts_data": 2, "tts_end": 1}, Outcome.OK),
        ("speech-aborted", {"tts_start": 1, "tts_data": 9, "tts_error": 1}, Outcome.ERROR_EVENT),
        ("speech-no-text", {"tts_error": 1}, Outcome.ERROR_EVENT),
        ("speech-unknown", {"tts_error": 1}, Outcome.ERROR_EVENT),
    ],
)
def test_the_events_of_a_capture_are_counted_however_they_are_cut(name, counts, outcome):
    body = events(name)
    for observer in (seen(body), seen(*(body[at : at + 1] for at in range(len(body))))):
        assert (observer.events, observer.has_end, of_speech(observer)) == (counts, True, outcome)
        assert observer.first_event_at is not None


def test_a_stream_without_its_last_event_is_truncated_and_one_without_sound_is_empty():
    assert of_speech(seen(events("speech").partition(b"event: tts_end")[0])) is Outcome.TRUNCATED
    assert of_speech(seen(b"event: tts_start\n\nevent: tts_end\n\n")) is Outcome.EMPTY
    assert of_speech(seen()) is Outcome.TRUNCATED


def test_other_names_and_names_inside_of_data_do_not_count():
    observer = seen(b'data: {"x":"', b"event: tts_end", b'"}\nevent: tts_other\n', b"event: tts_e", b"nd x\n")
    assert (observer.events, observer.has_end) == ({}, False)


def test_sound_costs_little():
    """The names of events are looked for in every byte of it, which took 5 ms of the event loop for each MB."""
    sound = b"event: tts_data\ndata: " + b"A" * 2**20 + b"\n\n"
    began = process_time()
    seen(*[sound] * 8)
    assert process_time() - began < 0.02


def test_a_long_line_is_not_kept():
    observer = seen(*[b"x" * 100_000] * 50)
    assert len(observer._rest) < 100
    observer.feed(b"\nevent: tts_end\n", 1.0)
    assert observer.has_end


def test_the_event_that_completes_a_stream_has_the_form_of_flowise():
    captured = events("speech-unknown")
    error = "Chatflow 00000000-0000-4000-8000-000000000001 not found in the database!"
    assert speech_error(error) == captured
