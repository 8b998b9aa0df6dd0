import os
import threading
import time

import pytest

from pipeline.system import regular_file
from pipeline.system.regular_file import read_regular_file


@pytest.fixture
def remote(monkeypatch):
    """All files are read as if they were on a network drive."""
    monkeypatch.setattr(regular_file, "_is_local", lambda folder: False)


MOUNTS = """\
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext4 /dev/root rw,errors=continue
37 35 0:42 / /data rw shared:7 - nfs4 server:/data rw,vers=4.2
38 35 0:43 / /win rw - cifs //server/share rw
39 35 0:44 / /tmp\\040dir rw - tmpfs tmpfs rw
40 35 0:45 / /ssh rw - fuse.sshfs host: rw
"""


def test_drives_of_this_machine_are_known():
    assert regular_file.parse_local_devices(MOUNTS) == {"98:0", "0:44"}
    assert regular_file.parse_local_devices("") == set()


@pytest.mark.parametrize("local", [True, False])
def test_files_and_links_to_files_are_read(tmp_path, monkeypatch, local):
    monkeypatch.setattr(regular_file, "_is_local", lambda folder: local)
    content = os.urandom(100_000)
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "link").symlink_to("a")
    assert read_regular_file(str(tmp_path / "a")) == content
    assert read_regular_file(str(tmp_path / "link")) == content
    assert read_regular_file(str(tmp_path / "empty")) == b""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "not a regular file"),
        (os.mkdir, "not a regular file"),
        (lambda path: os.symlink("/dev/zero", path), "not a regular file"),
        (lambda path: os.symlink(path, path), "symbolic links"),
        (lambda path: None, "No such file"),
    ],
)
@pytest.mark.parametrize("local", [True, False])
def test_nothing_else_is_opened(tmp_path, monkeypatch, make, message, local):
    monkeypatch.setattr(regular_file, "_is_local", lambda folder: local)
    make(tmp_path / "x")
    start = time.monotonic()
    with pytest.raises(OSError, match=message):
        read_regular_file(str(tmp_path / "x"))
    assert time.monotonic() - start < 5


def test_a_huge_file_is_not_read(tmp_path):
    with open(tmp_path / "huge.jpg", "wb") as file:
        file.truncate(regular_file.MAX_FILE_BYTES + 1)
    with pytest.raises(OSError, match="larger than 256 MiB"):
        read_regular_file(str(tmp_path / "huge.jpg"))


@pytest.mark.parametrize("new_size", [10, 5_000])
def test_a_file_that_shrinks_or_grows_is_refused(tmp_path, monkeypatch, new_size):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 1_000)
    real_fstat = os.fstat

    def change_after_fstat(descriptor):
        status = real_fstat(descriptor)
        os.truncate(path, new_size)
        return status

    monkeypatch.setattr(regular_file.os, "fstat", change_after_fstat)
    with pytest.raises(OSError, match="changes while it is read"):
        read_regular_file(str(path))


def test_a_file_that_stalls_is_an_error_and_the_next_is_read(
    tmp_path, monkeypatch, remote
):
    (tmp_path / "a").write_bytes(b"content")
    drive_is_back = threading.Event()
    real_stat = os.stat

    def stall(path, **options):
        if str(path).endswith("lost"):
            drive_is_back.wait()
        return real_stat(path, **options)

    monkeypatch.setattr(regular_file.os, "stat", stall)
    monkeypatch.setattr(regular_file, "READ_SECONDS", 0.1)
    try:
        for _ in range(2):
            with pytest.raises(OSError, match=r"not read within 0\.1 seconds"):
                read_regular_file(str(tmp_path / "lost"))
            assert read_regular_file(str(tmp_path / "a")) == b"content"
    finally:
        drive_is_back.set()


def test_after_three_stalls_in_a_row_the_limit_is_short(tmp_path, monkeypatch, remote):
    drive_is_back = threading.Event()

    def stall(path):
        drive_is_back.wait()
        raise OSError("the drive is gone")

    monkeypatch.setattr(regular_file.os, "stat", stall)
    monkeypatch.setattr(regular_file, "READ_SECONDS", 0.2)
    monkeypatch.setattr(regular_file, "_SHORT_SECONDS", 0.1)
    messages = []
    try:
        for _ in range(4):
            with pytest.raises(OSError, match="not read within") as error:
                read_regular_file(str(tmp_path / "lost"))
            messages.append(str(error.value))
    finally:
        drive_is_back.set()
        monkeypatch.undo()
    assert messages == ["not read within 0.2 seconds"] * 3 + [
        "not read within 0.1 seconds"
    ]
    (tmp_path / "a").write_bytes(b"content")
    assert read_regular_file(str(tmp_path / "a")) == b"content"


def test_the_helper_thread_ends_with_its_caller(tmp_path, remote):
    (tmp_path / "a").write_bytes(b"content")
    before = threading.active_count()
    for _ in range(5):
        caller = threading.Thread(target=read_regular_file, args=(str(tmp_path / "a"),))
        caller.start()
        caller.join()
    for _ in range(100):
        if threading.active_count() <= before:
            break
        time.sleep(0.05)
    assert threading.active_count() <= before


def test_a_fork_starts_a_reader_of_its_own(tmp_path, remote):
    (tmp_path / "a").write_bytes(b"content")
    assert read_regular_file(str(tmp_path / "a")) == b"content"
    process = os.fork()
    if not process:
        os._exit(read_regular_file(str(tmp_path / "a")) != b"content")
    assert os.waitpid(process, 0)[1] == 0
