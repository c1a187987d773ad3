"""`tidehub deploy`: makes the cluster what the site file says."""

from __future__ import annotations

from typing import Annotated

from tidehub.cli.changing import (
    DEFAULT_TIMEOUT,
    Adopt,
    NoBackup,
    NoCheck,
    Timeout,
    changing,
    commands,
    given,
    options,
    print_result,
    switched,
)
from tidehub.cli.cluster_options import Charts, Context, Kubeconfig, Offline
from tidehub.cli.options import Settings, SiteFile, json_of


def deploy(
    file: SiteFile = None,
    settings: Settings = None,
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    charts: Charts = None,
    offline: Offline = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
    adopt: Adopt = None,
    no_backup: NoBackup = False,
    no_check: NoCheck = False,
    as_json: Annotated[bool, json_of("the revision, and each step")] = False,
) -> None:
    """Make the cluster what the site file says.

    Step by step, the hub before the gateway. It may be interrupted at any time and run again; where nothing differs,
    nothing is written. Before something that is there changes, it is copied away. What an older hub could not take
    back is left to `tidehub upgrade`.
    """
    # Imported here, so that the other commands do not pay for it.
    from tidehub.cli.site_options import DEFAULT_FILE, settings_of
    from tidehub.kubernetes.deploying.deploy import deploy as deployed
    from tidehub.kubernetes.deploying.running import Work
    from tidehub.kubernetes.session import open_session

    more = [*given("--set", settings), *given("--adopt", adopt)]
    more += given("--charts", [str(charts)] if charts else [])
    more += switched(offline=offline, no_backup=no_backup, no_check=no_check)
    typed = commands("deploy", file, kubeconfig, context, *more)
    with changing(as_json) as say:
        session = open_session(
            file or DEFAULT_FILE,
            settings_of(settings),
            kubeconfig,
            context,
            charts,
            offline=offline,
            say=say.note,
        )
        work = Work(
            session.connected,
            session.helm,
            session.platform.namespace,
            say,
            options(timeout, adopt, no_backup=no_backup, no_check=no_check),
            typed,
        )
        result = deployed(session.render(), work)

    def said() -> list[str]:
        if not result.changed:
            return [f"{result.namespace} is as the site file says: nothing was changed."]
        return [
            f"{session.platform.site.site.name} is deployed in {result.namespace}, revision {result.revision}."
        ]

    print_result(result, as_json, said)
