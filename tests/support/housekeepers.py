"""A housekeeper that only steps, over a backend in memory, with a clock of the test."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future

from arvfuse.backend.lookups import Lookups
from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.errors import ArvfuseError, StoreUnavailable
from arvfuse.model.collections import MountId
from arvfuse.model.manifests import Manifest
from arvfuse.sdk.commit import Committer
from arvfuse.sdk.repacking import repack
from arvfuse.sdk.workspace import Workspace
from arvfuse.stores.memory import MemoryStore
from arvfuse.supervisor.housekeeping import Backend, Housekeeper, Timing
from tests.support.clock import FakeClock
from tests.support.engines import InlinePool


class FakeBackend:
    """Commits at once, or when told (hold), or fails (down)."""

    def __init__(self, committer, lookups, store, place):
        self.committer = committer
        self.store = store
        self.place = place
        self.lookups = lookups
        self.events = deque()
        self.commits = []
        self.forgotten = []
        self.told = 0
        self.hold = self.down = False
        self.held = []

    def request(self, op, **args):
        future = Future()
        if op == "commit":
            self.commits.append(args)
        if op == "forget":
            self.forgotten += args["blocks"]
        if self.hold:
            self.held.append((op, args, future))
        else:
            self.answer(op, args, future)
        return future

    def answer(self, op, args, future):
        if self.down:
            future.set_exception(StoreUnavailable("away"))
        elif op == "commit":
            outcomes = self.committer.commit(args["trees"], args["seq"], keep_previous=args["keep_previous"])
            future.set_result({"outcomes": [outcome.to_json() for outcome in outcomes]})
        elif op == "forget":
            for block in args["blocks"]:
                self.committer.forget_block(block)
            future.set_result({})
        elif op == "repack":
            future.set_result({"files": repack(self.store, self.place / "repack", args["files"])})
        else:
            try:
                future.set_result(self.lookups.answer(op, args))
            except ArvfuseError as error:
                future.set_exception(error)

    def release(self):
        held, self.held = self.held, []
        for entry in held:
            self.answer(*entry)

    def tell(self, seq):
        self.told = max(self.told, seq)

    def next_event(self, timeout_s):
        return self.events.popleft() if self.events else None

    def wake_events(self):
        pass


class FakeShown:
    """Remembers what it was told."""

    def __init__(self):
        self.names = []
        self.records = []
        self.in_use = set()
        self.closed = []

    def name_changed(self, directory, name):
        self.names.append(name)

    def record_changed(self, change):
        self.records.append(change.uuid)

    def expire(self):
        return True

    def knows(self, number):
        return False

    def trees_in_use(self):
        return self.in_use

    def tree_closed(self, live):
        self.closed.append(live)


class House:
    """A mount's parts with a housekeeper that only steps."""

    def __init__(self, place, *, spool_bytes=1 << 30, read_write=True, store=None, memory_bytes=256 << 20):
        self.clock = FakeClock()
        self.catalog = MemoryCatalog(clock=self.clock)
        store = store or MemoryStore()
        mount = MountId("house")
        self.workspace = Workspace(place, mount=mount, store=store, clock=self.clock, spool_bytes=spool_bytes)
        self.committer = self.new_committer(store)
        self.backend: FakeBackend = FakeBackend(self.committer, Lookups(self.catalog, place), store, place)
        link: Backend = self.backend
        self.keeper = Housekeeper(
            self.workspace, link, self.clock, timing=Timing(quiet_s=1, deadline_s=30), read_write=read_write,
            memory_bytes=memory_bytes,
        )  # fmt: skip

    def new_committer(self, store=None):
        """One that knows nothing but the log."""
        workspace = self.workspace
        return Committer(
            directory=workspace.directory, mount=workspace.mount, store=store or self.backend.store,
            catalog=self.catalog, clock=self.clock, pool=InlinePool(),
        )  # fmt: skip

    def stored(self):
        """The backend tells that it stored all blocks there are; their numbers."""
        numbers = [block.no for block in self.workspace.shared.blocks.all()]
        self.backend.events.extend({"event": "stored", "block": number} for number in numbers)
        self.step()
        return numbers

    def new(self, name="one"):
        record = self.catalog.create(name=name)
        return self.workspace.open_tree(record, Manifest(b""))

    def write(self, tree, name=b"file", content=b"foo"):
        tree.write(tree.create(tree.root, name), 0, content)

    def step(self, seconds=0.0):
        self.clock.advance(seconds)
        self.keeper.step(0)
        return len(self.backend.commits)

    def close(self):
        self.committer.close()
        self.workspace.close()

    def version(self, tree):
        return self.catalog.get(tree.uuid).version
