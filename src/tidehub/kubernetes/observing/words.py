"""The status of a deployed platform in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tidehub import program


def status_lines(status: Mapping[str, Any]) -> list[str]:
    """What `tidehub status` prints for the facts of `status.platform_status`."""
    place = f"namespace {status['namespace']} of {status['cluster']}"
    if not status["releases"]:
        return [f"Nothing is installed in {place}. Install it: {program.command('deploy')}"]
    state = "running" if status["healthy"] else "not well"
    lines = [f"{state} at {status['address'] or 'no address'}", place]
    if status["deployed"]:
        deployed = status["deployed"]
        lines[1] += f", release set {status['release_set']}"
        lines.append(f"revision {deployed['revision']}, deployed {deployed['at']} by {deployed['by']}")
    if status["unfinished"]:
        unfinished = status["unfinished"]
        at = f", at the step {unfinished['step']}" if unfinished["step"] else ""
        lines += [
            "",
            f"{unfinished['operation']} of {unfinished['by']} since {unfinished['since']} {unfinished['ended']}{at}.",
            f"  then: {unfinished['command']}",
        ]
    lines += ["", *_table([_release_row(one) for one in status["releases"]])]
    lines += ["", *_table([_part_row(one) for one in status["parts"]])]
    lines += _users(status)
    unbound = status["pvcs"]["unbound"]
    if unbound:
        lines += ["", f"PVCs without a PersistentVolume: {', '.join(unbound)}"]
    return lines


def _release_row(one: Mapping[str, Any]) -> tuple[str, ...]:
    chart, revision = f"{one['chart']} {one['version']}", f"revision {one['revision']}"
    return one["name"], one["status"], chart, revision if one["ours"] else f"{revision}, not made by tidehub"


def _part_row(one: Mapping[str, Any]) -> tuple[str, ...]:
    restarts = one["restarts"]
    detail = [f"restarted {restarts} times" if restarts != 1 else "restarted once"] if restarts else []
    detail += [one["why"]] if one["why"] else []
    return one["name"], one["state"], f"{one['ready']} of {one['wanted']}", ", ".join(detail)


def _users(status: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    servers, clusters = status["servers"], status["clusters"]
    if servers:
        rows = [(str(one["user"]), one["phase"], one["pod"], one["node"] or "") for one in servers]
        lines += ["", f"notebook servers: {len(servers)}", *_with_reasons(rows, servers)]
    if clusters:
        rows = [
            (
                one["user"] or "nobody known",
                f"scheduler {one['scheduler'] or 'not there'}",
                f"{one['workers']} workers" + (f", {one['waiting']} waiting" if one["waiting"] else ""),
                one["cluster"],
            )
            for one in clusters
        ]
        lines += ["", f"Dask clusters: {len(clusters)}", *_with_reasons(rows, clusters)]
    pvcs = status["pvcs"]
    lines += ["", f"homes: {pvcs['homes']}"] if pvcs["homes"] else []
    if pvcs["two"]:
        lines.append(f"  with two homes, of which one is mounted ({program.command('homes')}):")
        lines += _table([(owner, ", ".join(several)) for owner, several in pvcs["two"].items()])
    return lines


def _with_reasons(rows: Sequence[tuple[str, ...]], told: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for row, one in zip(_table(rows), told, strict=True):
        lines += [row, f"    {one['why']}"] if one["why"] else [row]
    return lines


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return [
        ("  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]
