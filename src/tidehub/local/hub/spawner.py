"""Starts a user's notebook server on this machine.

The server runs as the user (see `local/isolation`), listens on a unix socket that only the proxy can reach, and
starts when the ledger says that its memory guarantee fits. `start()` returns when the server answers, so that the
hub's own first look at it succeeds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from jupyterhub.spawner import Spawner
from jupyterhub.utils import url_escape_path, url_path_join
from traitlets import Set, Unicode

from tidehub.capacity import disk
from tidehub.capacity.queue import NOTEBOOK, Reservation, Waiting
from tidehub.errors import TidehubError
from tidehub.local.hub.checked_input import BadInput
from tidehub.local.hub.context import HubContext, server_reservation
from tidehub.local.hub.http_unix import connect, socket_url
from tidehub.local.hub.server_command import ServerPlace, server_argv, server_environment
from tidehub.local.hub.spawn_page import (
    FIELD,
    WITHOUT_PACKAGES,
    clean_up_form,
    find_server,
    nothing_to_start,
    options_form,
    read_form,
)
from tidehub.local.hub.spawner_words import (
    PACKAGES_HINT,
    MayNotStart,
    NoRoom,
    StartFailed,
    failure_words,
    memory_words,
    not_answering,
    not_started,
    starting,
)
from tidehub.local.isolation import LaunchSpec, Limits, ProcessHandle
from tidehub.local.supervisor.pace import Patience
from tidehub.login.entitled import Entitled, Server, entitled
from tidehub.site.model import Profile

PROGRESS_BEAT = 5.0
"""Seconds after which a page that watches a start looks by itself whether the start is over."""
LONGEST_SLUG = 100
"""Characters of a profile's short name that are looked up at all."""
READY_POLL = 0.02
"""Seconds between two tries to connect to a starting server (fast-start: the hub's own wait doubles up to 5 s)."""
LOG_LINES = 5
"""Last lines of its log that a user is shown of a server that did not start."""
FOREVER = 7 * 24 * 3600
"""Seconds after which the hub would give up a start; our own deadline begins when the queue is over."""


class TidehubSpawner(Spawner):  # type: ignore[misc]
    """One notebook server on this machine, started in its turn and under its owner's identity."""

    context: ClassVar[HubContext]
    more_options = Set(
        Unicode(),
        help="Names of options beside the profile that the site's own hub_config reads from user_options.",
        config=True,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.handle: ProcessHandle | None = None
        self._clean_up = False
        self._without_packages = False
        self._log_before = 0
        self._news = "Server requested"
        self._told = asyncio.Event()
        preselected = self.entitled().default
        if preselected is not None:
            self._apply_sizes(preselected)
        # Queueing is not failing: the outer deadline never fires, `ready_timeout` counts from the real start.
        self.start_timeout = FOREVER
        self.http_timeout = 60
        self.poll_interval = 5
        self.env_keep = ["LANG", "LC_ALL", "TZ"]
        self.default_url = "/lab"

    # --- choices ----------------------------------------------------------------------------

    def entitled(self) -> Entitled:
        """What the owner of this server has, by the memberships that the hub knows now."""
        groups = [group.name for group in self.user.groups] if self.user is not None else []
        return entitled(self.context.settings.site, self.user.name if self.user is not None else "", groups)

    def _options_form_default(self) -> Any:
        return TidehubSpawner._choices

    async def _choices(self) -> str:
        user = self.entitled()
        if not user.servers:
            raise MayNotStart(nothing_to_start(self.context.settings.site))
        chosen = (self.user_options or {}).get(FIELD)
        refused = await self.context.disk_watch.refusal(self.user.name)
        return clean_up_form(user, refused, chosen) if refused else options_form(user, chosen)

    def options_from_form(self, form: dict[str, list[str]]) -> dict[str, Any]:
        return read_form(form)

    def check_options(self, options: dict[str, Any]) -> None:
        """Raise `BadInput` or `MayNotStart` for options that no form of ours sends, before the hub stores them."""
        flags = (disk.FREE_SPACE, WITHOUT_PACKAGES)
        unknown = sorted(set(options) - {FIELD, *flags} - self.more_options)
        if unknown:
            raise BadInput(
                f"there is no option {unknown[0][:60]!r} of a server; possible: {', '.join((FIELD, *flags))}"
            )
        for flag in flags:
            if not isinstance(options.get(flag, True), bool):
                raise BadInput(f"{flag} must be true or false")
        slug = options.get(FIELD)
        if slug is not None and (not isinstance(slug, str) or len(slug) > LONGEST_SLUG):
            raise BadInput(f"{FIELD} must be the name of a profile, such as {self._a_slug()!r}")
        self._find(slug)

    def _a_slug(self) -> str:
        return self.context.settings.site.notebooks.default_profile.slug

    def _chosen(self) -> Server:
        # Asked again at every start: the form is only one way here, and memberships change.
        return self._find((self.user_options or {}).get(FIELD))

    def _find(self, slug: str | None) -> Server:
        try:
            return find_server(self.entitled(), slug)
        except ValueError as error:
            raise MayNotStart(str(error)) from None

    def _apply_sizes(self, server: Server) -> None:
        # The hub tells the notebook through MEM_LIMIT and CPU_LIMIT; enforcement is the isolation's.
        self.mem_limit, self.mem_guarantee = server.memory.limit, server.memory.guarantee
        self.cpu_limit, self.cpu_guarantee = server.cpu.limit, server.cpu.guarantee

    # --- life of the server -----------------------------------------------------------------

    @property
    def reservation_id(self) -> str:
        """The name of this server's reservation on the machine's memory."""
        return server_reservation(self.user.name, self.name)

    @property
    def last_words(self) -> str:
        """Why the server ended, for the pages where its owner meets that; empty when there is nothing to say."""
        return self.context.last_words.get(self.reservation_id, "")

    @property
    def disk_words(self) -> str:
        """That the owner's files take too much of the disk, or soon will; empty when there is nothing to say."""
        return self.context.disk_watch.words(self.user.name)

    async def start(self) -> str:
        chosen = self._chosen()
        self._clean_up = bool(refused := await self.context.disk_watch.refusal(self.user.name))
        if refused and not (self.user_options or {}).get(disk.FREE_SPACE):
            raise NoRoom(f"{refused} {disk.CLEAN_UP}")
        profile = chosen.profile
        self._choose_packages()
        self._apply_sizes(chosen)
        self.context.last_words.pop(self.reservation_id, None)
        await self._end_leftover()
        context = self.context
        reservation = Reservation(
            id=self.reservation_id,
            kind=NOTEBOOK,
            owner=self.user.name,
            memory=self.mem_guarantee,
            cores=self.cpu_guarantee,
            start_slot=True,
        )
        try:
            await context.admission.turn(reservation, self._tell_waiting)
            self._tell(starting(profile.name, self.disk_words, clean_up=self._clean_up))
            await context.disk_watch.set_quota(self.user.name)
            # In a thread: a new user's uid is reservationed and written to the disk.
            place = await asyncio.to_thread(self._place, self.user.name)
            await asyncio.to_thread(context.isolation.make_server_directory, place.user, place.directory.name)
            self._log_before = place.log.stat().st_size if place.log.exists() else 0
            self.handle = await context.isolation.start(self._launch_spec(profile, place))
            # The hub saves state only after start() returns; killed before that, `_end_leftover` finds it here.
            await asyncio.to_thread(context.ledger.launched, self.reservation_id, self.handle)
            await self._wait_until_ready(place, profile)
        except BaseException as error:
            await self._clear_up()
            if isinstance(error, TidehubError):
                # Foreseen, so it has words; the hub would show "unhandled error" instead.
                raise StartFailed(failure_words(error)) from error
            raise
        await asyncio.to_thread(context.ledger.started, self.reservation_id, self.handle)
        context.disk_watch.look_at(self.user.name)
        return socket_url(str(place.url_path))

    def _choose_packages(self) -> None:
        """Whether this start is without the user's own packages. Not kept: the hub repeats the last options where no
        form is shown, and who asked for this once would never have their packages again.
        """
        options = dict(self.user_options or {})
        self._without_packages = bool(options.pop(WITHOUT_PACKAGES, False))
        if self.orm_spawner is not None and self.orm_spawner.user_options:
            self.orm_spawner.user_options = options

    @property
    def _packages_hint(self) -> str:
        return "" if self._without_packages else PACKAGES_HINT

    async def _wait_until_ready(self, place: ServerPlace, profile: Profile) -> None:
        assert self.handle is not None
        patience = Patience(self.handle.pid, self.context.settings.ready_timeout)
        while not await _answers(place.socket):
            if not self.context.isolation.alive(self.handle):
                ending = self.context.isolation.ending(self.handle)
                tail = await self.context.isolation.log_tail(place.log, LOG_LINES, self._log_before)
                raise StartFailed(
                    not_started(profile.name, ending, self.mem_limit, tail) + self._packages_hint
                )
            if patience.spent():
                tail = await self.context.isolation.log_tail(place.log, LOG_LINES, self._log_before)
                raise StartFailed(not_answering(profile.name, patience.elapsed, tail) + self._packages_hint)
            if patience.beyond and patience.why:
                self._tell(f"Starting {profile.name}: this machine is slow, and {patience.why}")
            await asyncio.sleep(READY_POLL)

    async def poll(self) -> int | None:
        if self.handle is None:
            return 0
        if self.context.isolation.alive(self.handle):
            return None
        ending = self.context.isolation.ending(self.handle)
        if ending.out_of_memory:
            words = memory_words(ending, self.mem_limit)
            if words != self.last_words:
                self.log.warning("%s: %s", self._log_name, words)
            self.context.last_words[self.reservation_id] = words
        # Kernels outlive a server that died by itself; what is left of it goes before its memory is given away.
        await asyncio.to_thread(self.context.isolation.clean, self.handle)
        await self.context.admission.leave(self.reservation_id)
        self.context.disk_watch.stopped(self.user.name)
        return ending.status

    async def stop(self, now: bool = False) -> None:
        if self.handle is not None:
            await self.context.isolation.stop(self.handle, grace=0.0 if now else 10.0)
        await self._clear_up()

    def run_post_stop_hook(self) -> Any:
        # JupyterHub 5.5 (user.py, `stop`) finds the server's token by `api_token`, which a hub that was restarted since
        # does not know: the token would outlive the server.
        note = f"Server at {url_path_join(self.user.base_url, url_escape_path(self.name), '/')}"
        for token in [one for one in self.user.orm_user.api_tokens if one.note == note]:
            self.db.delete(token)
        self.db.commit()
        return super().run_post_stop_hook()

    async def _clear_up(self) -> None:
        if self.handle is not None:
            await self.context.isolation.stop(self.handle, grace=1.0)
            await asyncio.to_thread(self.context.isolation.clean, self.handle)
        await self.context.admission.leave(self.reservation_id)
        self.handle = None
        self.context.disk_watch.stopped(self.user.name)

    async def _end_leftover(self) -> None:
        """Ends a server that a killed hub had started and not yet written down."""
        state = await asyncio.to_thread(self.context.ledger.process, self.reservation_id)
        if state is not None:
            leftover = ProcessHandle.from_state(state)
            if self.context.isolation.alive(leftover):
                self.log.warning("%s: ending a server left by an interrupted start", self._log_name)
                await self.context.isolation.stop(leftover, grace=2.0)
        await self.context.admission.leave(self.reservation_id)

    # --- what the hub remembers across restarts ---------------------------------------------

    def get_state(self) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state()
        if self.handle is not None:
            state["process"] = self.handle.to_state()
            state["mem_limit"] = self.mem_limit
            state["mem_guarantee"], state["cpu_guarantee"] = self.mem_guarantee, self.cpu_guarantee
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        if "process" in state:
            self.handle = ProcessHandle.from_state(state["process"])
            self.mem_limit = state.get("mem_limit", self.mem_limit)

    def clear_state(self) -> None:
        super().clear_state()
        self.handle = None

    # --- progress ---------------------------------------------------------------------------

    def _tell_waiting(self, waiting: Waiting) -> None:
        # Not logged at each step: the places of all who wait change whenever one of them starts.
        if not self._news.startswith("Waiting"):
            self.log.info("%s: %s", self._log_name, waiting.reason)
        self._show(waiting.reason[:1].upper() + waiting.reason[1:])

    def _tell(self, news: str) -> None:
        self.log.info("%s: %s", self._log_name, news)
        self._show(news)

    @property
    def waiting_words(self) -> str:
        """What this server waits for, while it does: for pages that do not watch its start."""
        return self._news if self._spawn_pending and self._news.startswith("Waiting") else ""

    def _show(self, news: str) -> None:
        """Wake every page that watches this start."""
        self._news = news
        told, self._told = self._told, asyncio.Event()
        told.set()

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        said = ""
        while self._spawn_pending:
            told = self._told
            if self._news != said:
                said = self._news
                waiting = said.startswith("Waiting")
                yield {"progress": 10 if waiting else 50, "message": said}
            with suppress(TimeoutError):
                await asyncio.wait_for(told.wait(), PROGRESS_BEAT)

    # --- the process ------------------------------------------------------------------------

    def _place(self, name: str) -> ServerPlace:
        user = self.context.isolation.user(name)
        return ServerPlace.of(
            user=user,
            run_dir=self.context.isolation.run_directory(user),
            logs=self.context.places.server_logs,
            server=self.name,
        )

    def _launch_spec(self, profile: Profile, place: ServerPlace) -> LaunchSpec:
        settings, user = self.context.settings, place.user
        environment = settings.environments[profile.slug]
        with_dask = self.entitled().dask is not None
        return LaunchSpec(
            name=place.unit,
            user=user,
            argv=server_argv(environment, settings, place, self.get_args(), with_dask=with_dask),
            env=server_environment(
                self.get_env(),
                environment,
                settings,
                user,
                place,
                profile,
                with_dask=with_dask,
                without_packages=self._without_packages,
            ),
            cwd=user.home,
            log=place.log,
            limits=Limits(
                memory=self.mem_limit,
                memory_guarantee=self.mem_guarantee,
                cores=self.cpu_limit,
                cores_guarantee=self.cpu_guarantee,
                processes=settings.site.notebooks.max_processes,
                file_size=disk.LARGEST_FILE if self._clean_up else None,
            ),
            readable=settings.readable,
            writable=(place.directory,),
            parent="servers",
        )


async def _answers(socket: Path) -> bool:
    try:
        (await connect(str(socket))).close()
    except OSError:
        return False
    return True
