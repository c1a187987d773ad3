"""Python in values is read by parsing: what is understood, what stays, and that nothing ever runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tidehub.importing.cluster_options import Range, Recovered, recover
from tidehub.importing.python_reading import NotLiteral, Statements, literal, parse

GIB = 2**30


def read(code: str) -> tuple[Recovered, str]:
    tree = parse(code)
    assert tree is not None
    statements = Statements(code, tree)
    return recover(statements), statements.rest()


def value_of(code: str) -> Any:
    tree = parse(code)
    assert tree is not None
    return literal(tree.body[0].value)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("4", 4),
        ("2**30", GIB),
        ("24 * 1024**3", 24 * GIB),
        ("int(1.5 * 2**30)", 3 * GIB // 2),
        ("float(3)", 3.0),
        ("-2", -2),
        ("10 // 3", 3),
        ("10 / 4", 2.5),
        ("'16' + ' G'", "16 G"),
        ("[1, 'a', None]", [1, "a", None]),
        ("{'a': (1, 2)}", {"a": [1, 2]}),
    ],
)
def test_literals(code: str, value: object) -> None:
    assert value_of(code) == value


@pytest.mark.parametrize(
    "code",
    [
        "x",
        "f()",
        "__import__('os').system('true')",
        "open('/etc/passwd')",
        "9**9**9",
        "2**1000",
        "10**6**5",
        "'x' * 10**9",
        "1/0",
        "[1] * 10**9",
        "3j",
        "b'x'",
        "lambda: 1",
        "[i for i in range(9)]",
        "{**a}",
        "{1: 2}",
        "True + 1",
        "int('7')",
        "f'{1}'",
        "a.b",
        "a[0]",
        "1 if a else 2",
        "(-8)**0.5",
    ],
)
def test_everything_else_is_left_alone(code: str) -> None:
    with pytest.raises(NotLiteral):
        value_of(code)


def test_nothing_is_executed(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    code = f"""
open({str(witness)!r}, "w")
from dask_gateway_server.options import Options, Integer
__import__("pathlib").Path({str(witness)!r}).touch()
c.ClusterConfig.cluster_max_cores = open({str(witness)!r}, "w") and 4
c.ClusterConfig.cluster_max_workers = 4
c.Backend.cluster_options = Options(Integer("worker_cores", open({str(witness)!r}, "w"), min=1, max=2))
"""
    found, rest = read(code)
    assert found.settings == {"cluster_max_workers": 4}
    assert "cluster_max_workers" not in rest
    assert rest.count("open(") == 3
    assert not witness.exists()


def test_limits_of_both_class_names_and_with_names_for_numbers() -> None:
    found, rest = read(
        "gib = 2**30\nc.ClusterConfig.cluster_max_memory = 24 * gib\nc.KubeClusterConfig.idle_timeout = 20 * 60\n"
    )
    assert found.settings == {"cluster_max_memory": 24 * GIB, "idle_timeout": 1200}
    assert rest == ""


def test_helpers_stay_when_what_stays_needs_them() -> None:
    _, rest = read(
        "# about limits\nimport os\ngib = 2**30\nhalf = gib // 2\nunused = 7\n"
        "c.ClusterConfig.cluster_max_memory = 24 * gib\nc.Backend.other = half\n"
    )
    assert rest == "# about limits\ngib = 2**30\nhalf = gib // 2\nc.Backend.other = half\n"


def test_an_assignment_that_calls_something_stays() -> None:
    _, rest = read("x = register()\nc.ClusterConfig.idle_timeout = 60\n")
    assert rest == "x = register()\n"


def test_statements_that_share_a_line_stay_together() -> None:
    found, rest = read("c.ClusterConfig.idle_timeout = 60; c.Other.x = 1\n")
    assert found.settings == {"idle_timeout": 60}
    assert rest == "c.ClusterConfig.idle_timeout = 60; c.Other.x = 1\n"


@pytest.mark.parametrize(
    "line",
    [
        "c.ClusterConfig.cluster_max_cores = '4'",
        "c.ClusterConfig.cluster_max_memory = '16 GiB'",
        "c.ClusterConfig.cluster_max_workers = 2.5",
        "c.ClusterConfig.cluster_max_workers = 0",
        "c.ClusterConfig.cluster_max_workers = True",
        "c.ClusterConfig.idle_timeout = -1",
        "c.ClusterConfig.worker_cores = 1.5",
        "c.ClusterConfig.cluster_max_cores = compute()",
        "c.ClusterConfig.environment = {'A': 'b'}",
        "c.ClusterConfig.worker_cmd = ['my-worker']",
        "c.OtherConfig.cluster_max_cores = 4",
        "d.ClusterConfig.cluster_max_cores = 4",
        "c.ClusterConfig.cluster_max_cores += 4",
        "if True:\n    c.ClusterConfig.cluster_max_cores = 4",
        "c.ClusterConfig.image = 'has a blank'",
    ],
)
def test_what_a_site_file_cannot_say_stays_as_code(line: str) -> None:
    found, rest = read(line + "\n")
    assert found.settings == {}
    assert rest == line + "\n"


def _options(fields: str, handler: str = "", argument: str = "") -> str:
    return (
        "from dask_gateway_server.options import Options, Integer, Float, String, Select, Bool, Mapping\n"
        f"{handler}\nc.Backend.cluster_options = Options({fields}{argument})\n"
    )


_USUAL = 'Integer("worker_cores", 1, min=1, max=2), Float("worker_memory", 4, min=4, max=6, label="GiB")'
_USUAL_IMAGE = f'{_USUAL}, String("image", default="a/b:1")'
_HANDLER = """
def handler(options):
    {check}
    return {{"worker_cores": options.worker_cores, "worker_memory": {memory}, "image": options.image}}
"""
_CHECK = 'if ":" not in options.image:\n        raise ValueError("tag")'


@pytest.mark.parametrize(
    "memory",
    [
        "int(options.worker_memory * 2**30)",
        "int(2**30 * options.worker_memory)",
        "options.worker_memory * 1024 ** 3",
        "options.worker_memory * 1024 * 1024 * 1024",
        "round(options.worker_memory * 1073741824)",
        '"%fG" % options.worker_memory',
        '"%.2f G" % options.worker_memory',
        '"{}G".format(options.worker_memory)',
        '"{:.1f} G".format(options.worker_memory)',
        'f"{options.worker_memory}G"',
        'f"{options.worker_memory:.2f} G"',
        '"%dM" % (options.worker_memory * 1024)',
    ],
)
def test_units_of_memory(memory: str) -> None:
    handler = _HANDLER.format(check=_CHECK, memory=memory)
    found, rest = read(_options(_USUAL_IMAGE, handler, ", handler=handler"))
    assert rest == ""
    assert found.memory == Range(4 * GIB, 6 * GIB, 4 * GIB)
    assert found.cores == Range(1, 2, 1)
    assert (found.image, found.image_choice) == ("a/b:1", "tagged")


def test_a_factor_with_a_name() -> None:
    handler = "GiB = 2**30\n" + _HANDLER.format(
        check="size = GiB", memory="int(options.worker_memory * size)"
    )
    found, _ = read(_options(_USUAL_IMAGE, handler, ", handler=handler"))
    assert found.memory == Range(4 * GIB, 6 * GIB, 4 * GIB)
    assert found.image_choice == "any"


@pytest.mark.parametrize(
    "check",
    [
        'if ":" not in options.image:\n        raise ValueError("x")',
        'if ":" not in options.image.rsplit("/", 1)[-1]:\n        raise ValueError("x")',
    ],
)
def test_the_check_of_the_tag(check: str) -> None:
    handler = _HANDLER.format(check=check, memory="int(options.worker_memory * 2**30)")
    assert read(_options(_USUAL_IMAGE, handler, ", handler=handler"))[0].image_choice == "tagged"


def test_lambda_target_and_module_names() -> None:
    code = (
        "from dask_gateway_server import options as o\n"
        "c.KubeBackend.cluster_options = o.Options(\n"
        '    o.Integer("cores", 1, 1, 4, target="worker_cores"),\n'
        '    o.Integer("gib", 4, 2, 8),\n'
        '    handler=lambda x: {"worker_cores": x.worker_cores, "worker_memory": x.gib * 2**30},\n'
        ")\n"
    )
    found, rest = read(code)
    assert found.cores == Range(1, 4, 1)
    assert found.memory == Range(2 * GIB, 8 * GIB, 4 * GIB)
    assert rest == ""


def test_a_function_of_the_user_that_ignores_the_user() -> None:
    code = (
        "from dask_gateway_server.options import Options, Integer\n"
        "def options(user):\n"
        "    def handler(o):\n"
        '        return {"worker_cores": o.worker_cores}\n'
        '    return Options(Integer("worker_cores", 1, min=1, max=3), handler=handler)\n'
        "c.Backend.cluster_options = options\n"
    )
    found, rest = read(code)
    assert found.cores == Range(1, 3, 1)
    assert rest == ""


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (_options(_USUAL + ', Bool("gpu", False)'), "for which a site file has no choice"),
        (_options(_USUAL + ', Mapping("environment", {})'), "for which a site file has no choice"),
        (_options('Integer("worker_cores", 1, min=1)'), "no max"),
        (_options('Float("worker_cores", 0.5, min=0.5, max=2)'), "not a whole number of cores"),
        (_options('Select("image", ["a:1", "b:1"])'), "chosen from a list"),
        (_options(_USUAL, "", ", handler=elsewhere"), "not a function of this code"),
        (_options(_USUAL, "def h(o):\n    log(o)\n    return {}", ", handler=h"), "does more than translate"),
        (_options(_USUAL, "def h(o):\n    return dict(a=1)", ", handler=h"), "does more than translate"),
        (_options(_USUAL, "def h(o):\n    pass", ", handler=h"), "does more than translate"),
        (_options(_USUAL, "", ", other=1"), "other="),
        (_options("*fields"), "one of Integer"),
        ("c.Backend.cluster_options = make_options()\n", "not made by Options"),
        ("c.Backend.cluster_options = unknown\n", "not made by Options"),
        (
            (
                "def f(user):\n    if user.admin:\n        return Options()\n    return Options()\n"
                "c.Backend.cluster_options = f\n"
            ),
            "more than return",
        ),
        (
            _options(
                _USUAL,
                'def h(o):\n    return {"worker_cores": min(o.worker_cores, 2), "worker_memory": o.worker_memory}',
                ", handler=h",
            ),
            "more than a unit",
        ),
    ],
)
def test_options_that_say_more_stay_whole(code: str, why: str) -> None:
    found, rest = read(code)
    assert rest == code
    assert why in found.remarks[0]


def test_plain_ranges_are_recovered_from_options_that_stay() -> None:
    found, rest = read(_options(_USUAL_IMAGE + ', Mapping("environment", {})'))
    assert "cluster_options" in rest
    assert found.cores == Range(1, 2, 1)
    assert found.image == "a/b:1"


def test_recovered_options_are_those_that_dask_gateway_makes() -> None:
    """The same code run by dask-gateway itself gives the same ranges."""
    pytest.importorskip("dask_gateway_server.options")
    handler = _HANDLER.format(check=_CHECK, memory="int(options.worker_memory * 2**30)")
    code = _options(_USUAL_IMAGE, handler, ", handler=handler")
    found, _ = read(code)
    assert found.cores is not None
    assert found.memory is not None

    class Config:
        cluster_options: Any = None

    class Root:
        Backend = Config

    exec(code, {"c": Root})
    real: Any = Root.Backend.cluster_options
    for cores, memory, image in ((1, 4, "a/b:1"), (2, 6, "x:2")):
        made = real.get_configuration(
            real.parse_options({"worker_cores": cores, "worker_memory": memory, "image": image}), None
        )
        assert found.cores.min <= made["worker_cores"] <= found.cores.max
        assert found.memory.min <= made["worker_memory"] <= found.memory.max
    defaults = real.get_configuration(real.parse_options({}), None)
    assert (defaults["worker_cores"], defaults["worker_memory"]) == (
        found.cores.default,
        found.memory.default,
    )
    assert defaults["image"] == found.image
    for wrong in ({"worker_cores": found.cores.max + 1}, {"image": "no-tag"}):
        with pytest.raises(ValueError, match=r"must be|tag"):
            real.get_configuration(real.parse_options(wrong), None)
