"""The content of files: reads, writes to the log or to buffer blocks, and the sealing of those.

Small new data go to the log (files up to 1 MiB), all other to a position-mapped block per 64 MiB piece, where bytes
that are written again are replaced in place while the block is WRITABLE. Spool files are read and written outside
every lock of the tree, between a reservation that counts the writer in and the publication of the segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from arvfuse.errors import Damaged, FileTooBig, InvalidPath, NoSpace, NoSuchOffset
from arvfuse.model import records
from arvfuse.model.blockstate import Event, State
from arvfuse.model.escapes import show
from arvfuse.model.locators import BLOCK_BYTES
from arvfuse.model.ranges import HOLE, LOG, Fetch, Ref, Segment, SegmentMap
from arvfuse.model.records import CODES
from arvfuse.sdk.blocks import BufferBlock, DroppedBlock
from arvfuse.sdk.log import DroppedLog
from arvfuse.sdk.logged import LoggedTree
from arvfuse.sdk.nodes import FileNode, Node

SMALL_BYTES: Final = 1 << 20  # up to here a file's data go to the log
INLINE_PARTS: Final = 64  # inline records of a file between two commits, before it gets a block of its own
MAX_FILE_BYTES: Final = 16 << 40

_WRITE_INLINE: Final = CODES[records.WriteInline]


class ContentTree(LoggedTree):
    """A logged tree whose files can be read and written."""

    def read(self, file: FileNode, offset: int, size: int, fetch: Fetch | None = None) -> bytes | memoryview:
        """Up to *size* bytes from *offset*; short only at the end of the file. *fetch*: as `Shared.fetch`, which it is
        if none is given. Store errors; Damaged."""
        parts = self.read_parts(file, offset, size, fetch)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read_parts(
        self, file: FileNode, offset: int, size: int, fetch: Fetch | None = None
    ) -> list[bytes | memoryview]:
        """As read(), in the pieces in which the bytes were found."""
        fetch = fetch or self.shared.fetch
        before = None
        while True:
            with self.held(file):
                spans = self._cover(file, offset, size)
            try:
                return [fetch(span.ref, span.offset, span.length) for span in spans]
            except (DroppedLog, DroppedBlock) as exc:
                if spans == before:
                    raise Damaged(f"{show(file.name)}: its bytes are gone from log or spool") from exc
                before = spans  # a commit moved the bytes meanwhile: the segments say where to

    def cover(self, file: FileNode, offset: int, size: int, limit: int | None = None) -> list[Segment]:
        """The segments that hold [offset, offset+size), at most *limit*."""
        with self.held(file):
            return file.segments.cover(offset, size, limit)

    def write(self, file: FileNode, offset: int, data: bytes | bytearray | memoryview) -> int:
        """Write all of *data*, and wait while the spool is full. FileTooBig, NoSpace, LogFailed, StoreUnavailable."""
        written = self.accept(file, offset, data)
        self.shared.pace()
        return written

    def accept(self, file: FileNode, offset: int, data: bytes | bytearray | memoryview, *, taken: bool = False) -> int:
        """Write all of *data*: it is safe from our death when this returns. As write(), but waits for no room: the
        caller holds the answer back while the spool is full.

        *taken*: its writer was told that it is written, so on a disk without room for the spool it goes to the log,
        which has a reserve for that (D4)."""
        view = memoryview(data).cast("B") if not isinstance(data, bytes) else memoryview(data)
        if offset < 0:
            raise InvalidPath(show(file.name), "negative offset")
        if not len(view):
            return 0
        if offset + len(view) > MAX_FILE_BYTES:
            raise FileTooBig(show(file.name))
        done = 0
        while done < len(view):
            with self.shared.file_lock(file.no):
                done += self._write_some(file, offset + done, view[done:], taken=taken)
            if done < len(view):
                self._wait_at_gate(file)
        return len(view)

    def append(self, file: FileNode, data: bytes | bytearray | memoryview) -> int:
        """Write all of *data* behind the end of the file, wherever that is by then; the offset behind it.

        Several appenders never overwrite each other; a part that a commit point held back may follow theirs."""
        view = memoryview(data).cast("B") if not isinstance(data, bytes) else memoryview(data)
        done = 0
        end = file.size
        while done < len(view):
            with self.shared.file_lock(file.no):
                start = file.size
                if start + len(view) - done > MAX_FILE_BYTES:
                    raise FileTooBig(show(file.name))
                written = self._write_some(file, start, view[done:])
                done += written
                end = start + written
            if done < len(view):
                self._wait_at_gate(file)
        self.shared.pace()
        return end

    def extend(self, file: FileNode, size: int) -> None:
        """Let the file have *size* bytes at least; growth is a hole."""
        if size > file.size:
            self.truncate(file, size)

    def seek(self, file: FileNode, offset: int, *, data: bool) -> int:
        """The first offset from *offset* on that has data, or that lies in a hole. NoSuchOffset at or past the end."""
        with self.held(file):
            if offset < 0 or offset >= file.size:
                raise NoSuchOffset(show(file.name))
            for span in file.segments.cover(offset, file.size - offset):
                if (span.ref != HOLE) == data:
                    return max(span.start, offset)
            if data:
                raise NoSuchOffset(show(file.name))
            return file.size

    def failed(self, file: FileNode, failure: Exception) -> None:
        """Let the next flush of every handle of the file say what went wrong (D4)."""
        with self.held(file):
            file.error = failure
            file.error_mark += 1

    def truncate(self, file: FileNode, size: int) -> None:
        """Set the size; growth is a hole."""
        if size < 0:
            raise InvalidPath(show(file.name), "negative size")
        if size > MAX_FILE_BYTES:
            raise FileTooBig(show(file.name))
        gone: list[BufferBlock] = []
        with self.shared.file_lock(file.no), self.held(file) as tree:
            tree.check_writable()
            if size == file.size:
                file.mtime_ns = tree.shared.clock.time_ns()
                return
            now = tree.shared.clock.time_ns()
            tree.bind(file)
            seq = tree.log(records.Truncate(file.no, size), now, orphan=file.parent is None)
            file.changed_seq = seq
            tree.cut(file, size, now)
            if size == 0:
                file.inline_parts = 0
            gone = tree._take_unused_locked(file)
        tree.shared.flush(seq)
        tree._discard(gone)

    def set_attrs(self, node: Node, *, mtime_ns: int | None = None, mode: int | None = None) -> None:
        """Set what lives beside the manifest: it holds as long as the node does."""
        with self.held(node) as tree:
            tree.check_writable()
            if mtime_ns is not None:
                node.mtime_ns = mtime_ns
            if mode is not None:
                node.mode = mode

    def set_content(self, file: FileNode, parts: Iterable[tuple[int, Ref, int]]) -> None:
        """Make the file consist of *parts*, segments of this workspace or committed blocks."""
        listed = tuple(parts)
        with self.shared.file_lock(file.no), self.held(file) as tree:
            tree.check_writable()
            seq = tree._share_locked(file, listed)
            gone = tree._take_unused_locked(file)
        tree.shared.flush(seq)
        tree._discard(gone)

    def splice(self, file: FileNode, offset: int, spans: Iterable[Segment]) -> None:
        """Let [offset, ...) of the file be *spans*, shareable segments of this workspace; a gap before becomes a hole.

        The file's own blocks are sealed: what is shared is not rewritten in place."""
        with self.shared.file_lock(file.no), self.held(file) as tree:
            tree.check_writable()
            for block in list(file.buffers.values()):
                tree._seal_locked(block)
            segments = SegmentMap(file.parts())
            for span in spans:
                segments.replace(offset, span.length, span.ref, span.offset)
                offset += span.length
            if segments.size > MAX_FILE_BYTES:
                raise FileTooBig(show(file.name))
            seq = tree._share_locked(file, tuple((each.length, each.ref, each.offset) for each in segments))
        tree.shared.flush(seq)

    def repack(self, file: FileNode, version: int, parts: Sequence[tuple[int, Ref, int]]) -> bool:
        """Let the file, unless it changed since *version*, consist of *parts*, stored blocks with the same bytes.

        No change of the content: neither its time nor who had it last is another then. LogFailed."""
        with self.shared.file_lock(file.no), self.held(file) as tree:
            if file.version != version or file.buffers or file.parent is None or not tree.writable:
                return False
            tree.bind(file)
            seq = tree.log(records.Segments(file.no, tuple(parts)), file.mtime_ns)
            tree.set_segments(file, parts, file.mtime_ns)
        tree.shared.flush(seq)
        return True

    def shareable(self, file: FileNode) -> tuple[tuple[int, Ref, int], ...]:
        """The file's segments, in blocks that are sealed: what a copy may refer to."""
        with self.shared.file_lock(file.no), self.held(file) as tree:
            for block in list(file.buffers.values()):
                tree._seal_locked(block)
            parts = tuple(file.parts())
            seq = tree.shared.log.seq
        tree.shared.flush(seq)
        return parts

    def close_gate(self) -> None:
        """Hold new block writes back and wait until those in flight are published."""
        with self.settled:
            self._gate += 1
            while self._in_flight:
                self.settled.wait()

    def open_gate(self) -> None:
        with self.settled:
            self._gate -= 1
            self.settled.notify_all()

    def _cover(self, file: FileNode, offset: int, size: int) -> list[Segment]:
        if size <= 0 or offset < 0:
            return []
        return file.segments.cover(offset, size)

    def _write_inline(self, file: FileNode, offset: int, view: memoryview, *, always: bool = False) -> bool:
        """Write to the log if the file is small and the bytes are new, or *always*; False if it has to be a block."""
        with self.held(file) as tree:
            tree.check_writable()
            if not always and not _fits_inline(file, offset, len(view)):
                return False
            now = tree.shared.clock.time_ns()
            tree.bind(file)
            flags = records.ORPHAN if file.parent is None else 0
            body = records.encode_inline(file.no, offset)
            seq, address = tree.place(_WRITE_INLINE, body, view, flags=flags, wall_ns=now)
            tree._changed_at(seq)
            file.inline_parts += 1
            file.changed_seq = seq
            tree.put_segment(file, offset, len(view), LOG, address, now)
            tree.unsettled[file.no] = file
        tree.shared.flush(seq)
        return True

    def _write_some(self, file: FileNode, offset: int, view: memoryview, *, taken: bool = False) -> int:
        """Write what can be written before a commit point closes the gate; the number of bytes. File lock held."""
        if self._write_inline(file, offset, view):
            return len(view)
        try:
            if file.inline_parts:
                self._promote(file)
            return self._write_blocks(file, offset, view)
        except NoSpace:
            if not taken:
                raise
        self._write_inline(file, offset, view, always=True)
        return len(view)

    def _wait_at_gate(self, file: FileNode) -> None:
        """Let a commit point pass. No lock held."""
        with self.held(file) as tree:
            while tree._gate:
                tree.settled.wait()

    def _promote(self, file: FileNode) -> None:
        """Copy the file's inline data of this commit period to its blocks: it has become big, or is rewritten.

        The file lock is held, so nobody else changes the file. What a closed gate holds back may as well stay."""
        with self.held(file):
            file.inline_parts = 0
            spans = [s for s in file.segments if s.ref == LOG]
        for span in spans:
            data = self.read(file, span.start, span.length)
            self._write_blocks(file, span.start, memoryview(data))

    def _write_blocks(self, file: FileNode, offset: int, view: memoryview) -> int:
        done = 0
        seq = 0
        while done < len(view):
            piece, at = divmod(offset + done, BLOCK_BYTES)
            part = min(len(view) - done, BLOCK_BYTES - at)
            reserved = self._reserve(file, piece)
            if reserved is None:
                break
            block, tree = reserved
            written = False
            if at < block.size:  # file lock held, so nobody writes behind that meanwhile
                block.rewritten = True
            try:
                block.pwrite(view[done : done + part], at)
                written = True
            finally:
                seq = max(seq, tree._publish(file, block, offset + done, part if written else 0, at))
            done += part
        if seq:
            self.shared.flush(seq)
        return done

    def _reserve(self, file: FileNode, piece: int) -> tuple[BufferBlock, ContentTree] | None:
        """The writable block of a piece, with a writer counted in; None while a commit point closes the gate."""
        spare: BufferBlock | None = None
        block: BufferBlock | None
        while True:
            with self.held(file) as tree:
                tree.check_writable()
                if tree._gate:
                    block = None
                    break
                block = file.buffers.get(piece) or spare
                if block is not None:
                    file.buffers[piece] = block
                    block.writers += 1
                    tree._in_flight += 1
                    break
            spare = self.shared.blocks.new(file, piece)
        if spare is not None and spare is not block:
            self.shared.discard(spare)
        return (block, tree) if block is not None else None

    def _publish(self, file: FileNode, block: BufferBlock, offset: int, length: int, at: int) -> int:
        """Count the writer out and let the file have what it wrote; the record's number, 0 for bytes in place.

        The file still is in the tree in which the writer was counted in: a move to another waits for it."""
        with self.lock:
            block.writers -= 1
            self._in_flight -= 1
            try:
                if not length:
                    return 0
                block.size = max(block.size, at + length)
                return self._publish_locked(file, block, offset, length, at)
            finally:
                if self._gate and not self._in_flight:
                    self.settled.notify_all()

    def _publish_locked(self, file: FileNode, block: BufferBlock, offset: int, length: int, at: int) -> int:
        now = self.shared.clock.time_ns()
        there = file.segments.cover(offset, length, 2)
        if len(there) == 1 and there[0].ref == block.no and there[0].length == length:
            file.mtime_ns = now
            self.last_change = self.shared.clock.monotonic()
            seq = 0
        else:
            self.bind(file)
            body = records.WriteBlock(file.no, offset, length, block.no, at)
            seq = self.log(body, now, orphan=file.parent is None)
            file.changed_seq = seq
            self.put_segment(file, offset, length, block.no, at, now)
            self.unsettled[file.no] = file
            block.charged += length
            self.shared.spool.charge(length)
        if block.size == BLOCK_BYTES and not block.writers:
            whole = file.segments.cover(block.piece * BLOCK_BYTES, BLOCK_BYTES, 2)
            if len(whole) == 1 and whole[0].ref == block.no and whole[0].length == BLOCK_BYTES:
                self._seal_locked(block)
        return seq

    def _seal_locked(self, block: BufferBlock) -> None:
        """No more bytes for this block: log which of its ranges count. No writer is in it."""
        file = block.file
        assert block.writers == 0
        if file.buffers.get(block.piece) is block:
            del file.buffers[block.piece]
        start = block.piece * BLOCK_BYTES
        ranges = tuple((s.offset, s.length) for s in file.segments.cover(start, BLOCK_BYTES) if s.ref == block.no)
        if not ranges:
            self.shared.discard_later(block)
            return
        block.finish()
        block.advance(Event.SEAL)
        self.bind(file)
        flags = records.REWRITTEN if block.rewritten else 0
        seal = records.Seal(file.no, block.no, _joined(ranges))
        block.seal_seq = self.log(seal, orphan=file.parent is None, flags=flags)
        block.sealed_in = self.no
        self.shared.sealed_seq = block.seal_seq

    def _take_unused_locked(self, file: FileNode) -> list[BufferBlock]:
        """Writable blocks that no segment refers to since the newest change, taken from the file."""
        gone = []
        for piece, block in list(file.buffers.items()):
            used = any(s.ref == block.no for s in file.segments.cover(piece * BLOCK_BYTES, BLOCK_BYTES))
            if not used and not block.writers:
                del file.buffers[piece]
                gone.append(block)
        if gone:
            self.note_undo(lambda: file.buffers.update((block.piece, block) for block in gone))
        return gone

    def _share_locked(self, file: FileNode, parts: tuple[tuple[int, Ref, int], ...]) -> int:
        """Make the file consist of *parts*, some of which other files have too; the record's number."""
        now = self.shared.clock.time_ns()
        self.bind(file)
        seq = self.log(records.Segments(file.no, parts), now, orphan=file.parent is None)
        file.changed_seq = file.copied_seq = seq
        self.set_segments(file, parts, now)
        self._note_refs_locked(file)
        return seq

    def _note_refs_locked(self, file: FileNode) -> None:
        if any(isinstance(s.ref, int) and s.ref != HOLE for s in file.segments):
            self.unsettled[file.no] = file

    def _discard(self, blocks: list[BufferBlock]) -> None:
        """Drop writable blocks that nobody refers to. Outside the lock, as it unlinks, and when the record that let
        them go is flushed, because a log that names them needs their bytes."""
        for block in blocks:
            if block.state is State.WRITABLE and not block.writers:
                self.shared.discard(block)


def _fits_inline(file: FileNode, offset: int, size: int) -> bool:
    """Whether the file is small, with few parts, and the bytes are new in this commit period."""
    if offset + size > SMALL_BYTES or file.size > SMALL_BYTES or file.buffers or file.inline_parts >= INLINE_PARTS:
        return False
    return not file.inline_parts or not any(s.ref == LOG for s in file.segments.cover(offset, size))


def _joined(ranges: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """Neighbouring ranges as one."""
    out: list[tuple[int, int]] = []
    for offset, length in ranges:
        if out and out[-1][0] + out[-1][1] == offset:
            out[-1] = (out[-1][0], out[-1][1] + length)
        else:
            out.append((offset, length))
    return tuple(out)
