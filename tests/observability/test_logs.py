"""The log of what changes: a line that cannot be written is lost, and nothing else."""

import errno
import io

from gateway.observability.logs import Lossy


class FullDisk(io.StringIO):
    full = True

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)

    def flush(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_loses_lines_and_raises_nothing():
    disk = FullDisk()
    stream = Lossy(disk)
    stream.write("lost")
    stream.flush()
    disk.full = False
    stream.write("kept")
    stream.flush()
    assert disk.getvalue() == "kept"
