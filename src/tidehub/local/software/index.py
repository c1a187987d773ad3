"""What uv, pip and npm are told: where packages come from, and a private place to work in.

What pip was told holds for us too: uv reads neither pip's variables nor its configuration files, so an address, a
certificate bundle or a proxy that an administrator set there once is handed on. Only the standard library: the first
set-up uses it.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tidehub.local.software.directories import make_folder, prepare_root, set_mode
from tidehub.local.software.layout import PRIVATE_DIRECTORY, ours

_WORKPLACE = ".setting-up-"

# Variables of the shell that would change which environment or which versions uv works on.
_NOT_OURS = (
    "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "UV_CONSTRAINT", "UV_OVERRIDE",
    "UV_EXCLUDE_NEWER", "UV_PRERELEASE", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "UV_REQUIRE_HASHES",
    "UV_RESOLUTION", "UV_SYSTEM_PYTHON", "UV_BREAK_SYSTEM_PACKAGES", "UV_VENV_CLEAR", "UV_VENV_SEED",
    "UV_NO_BINARY", "UV_LINK_MODE",
)  # fmt: skip


def pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """pip's `[global]` settings by option name (`index-url`, `extra-index-url`, `cert`, `proxy`), variables
    first.

    Files as pip documents them under "Configuration Files"; one that cannot be read or parsed counts as
    absent, as pip would complain about it itself.
    """
    home = environ.get("HOME", "")
    config_home = environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    files = ["/etc/pip.conf"]
    files += [f"{home}/.pip/pip.conf"] if home else []
    files += [f"{config_home}/pip/pip.conf"] if config_home else []
    files += [environ["PIP_CONFIG_FILE"]] if environ.get("PIP_CONFIG_FILE") else []
    settings: dict[str, str] = {}
    for name in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(Path(name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue
        if parser.has_section("global"):
            settings.update({key.replace("_", "-"): value.strip() for key, value in parser.items("global")})
    for option in ("index-url", "extra-index-url", "cert", "proxy", "client-cert"):
        if value := environ.get(f"PIP_{option.replace('-', '_').upper()}"):
            settings[option] = value
    return {key: value for key, value in settings.items() if value}


def uv_environment(root: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for uv: the caller's, with pip's index, certificates and proxy, and a cache below
    `root`.
    """
    env = {key: value for key, value in environ.items() if key not in _NOT_OURS}
    settings = pip_settings(environ)
    if not any(env.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL")) and "index-url" in settings:
        env["UV_DEFAULT_INDEX"] = settings["index-url"]
    if (
        not any(env.get(name) for name in ("UV_INDEX", "UV_EXTRA_INDEX_URL"))
        and "extra-index-url" in settings
    ):
        env["UV_EXTRA_INDEX_URL"] = " ".join(settings["extra-index-url"].split())
    if not env.get("SSL_CERT_FILE") and "cert" in settings:
        env["SSL_CERT_FILE"] = settings["cert"]
    if "proxy" in settings and not any(env.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        env["HTTPS_PROXY"] = env["HTTP_PROXY"] = settings["proxy"]
    env.setdefault("UV_CACHE_DIR", str(cache(root, "uv")))
    env.setdefault("UV_HTTP_TIMEOUT", environ.get("PIP_DEFAULT_TIMEOUT", "60"))
    env["UV_PYTHON_DOWNLOADS"] = "never"
    env["UV_NO_PROGRESS"] = "1"
    env["NO_COLOR"] = "1"
    return env


def pip_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for pip: the caller's, with the index and certificates that only uv was told about."""
    env = {
        key: value
        for key, value in environ.items()
        if key not in _NOT_OURS and key != "PIP_REQUIRE_VIRTUALENV"
    }
    settings = pip_settings(environ)
    index = environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL")
    if index and "index-url" not in settings:
        env["PIP_INDEX_URL"] = index.partition("=")[2] if _is_named(index) else index
    if environ.get("SSL_CERT_FILE") and "cert" not in settings:
        env["PIP_CERT"] = environ["SSL_CERT_FILE"]
    return env


def _is_named(index: str) -> bool:
    """uv accepts `name=https://...`; an `=` later on belongs to the address."""
    name, equals, _ = index.partition("=")
    return bool(equals) and "://" not in name


def npm_environment(root: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for npm: the caller's, with a cache below `root` and the certificates that the machine trusts."""
    env = {**environ, "NO_COLOR": "1"}
    env.setdefault("npm_config_cache", str(cache(root, "npm")))
    if certificates := trusted_by_this_machine(environ):
        env.setdefault("NODE_EXTRA_CA_CERTS", certificates)
    return env


def trusted_by_this_machine(environ: Mapping[str, str] = os.environ) -> str | None:
    """The file with the certificates that the machine trusts; Node.js by itself knows only its own list.

    `SSL_CERT_FILE`, or where Debian, Fedora or SUSE keep it (as Go's crypto/x509 lists them).
    """
    usual = (
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/ca-bundle.pem",
    )
    return next(
        (file for file in (environ.get("SSL_CERT_FILE"), *usual) if file and Path(file).is_file()), None
    )


def cache(root: Path, name: str) -> Path:
    """The directory for one program's downloads below `root`, closed to others. Raises `OSError`.

    An open one is closed too: uv makes lock files in it that everybody may open, and so hold for ever.
    """
    above = root / "cache"
    for folder in (above, above / name):
        make_folder(folder, PRIVATE_DIRECTORY)
        if ours(folder):
            set_mode(folder, PRIVATE_DIRECTORY)
    return above / name


@contextlib.contextmanager
def workplace(root: Path) -> Iterator[Path]:
    """A fresh private directory below `root` for one run of uv, pip or npm, removed afterwards."""
    prepare_root(root)
    for left in root.glob(f"{_WORKPLACE}*"):
        if not Path("/proc", left.name.split("-")[-2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{_WORKPLACE}{os.getpid()}-", dir=root) as name:
        place = Path(name)
        for folder in ("home", "tmp", "cache"):
            (place / folder).mkdir(mode=PRIVATE_DIRECTORY)
        yield place


def confined(env: Mapping[str, str], place: Path) -> dict[str, str]:
    """`env` with home, temporary files and caches in `place`; configuration and logins are still the caller's.

    npm 11 keeps compiled code, which it runs the next time, in a directory of a known name below the temporary one
    (module.enableCompileCache of Node.js): in /tmp that would be anybody's to fill.
    """
    home = Path(env.get("HOME") or "/nonexistent")
    found = dict(env)
    for name, path in (
        ("NETRC", home / ".netrc"),
        ("npm_config_userconfig", home / ".npmrc"),
        ("XDG_CONFIG_HOME", home / ".config"),
        ("XDG_DATA_HOME", home / ".local" / "share"),
        ("PIP_CONFIG_FILE", home / ".pip" / "pip.conf"),
    ):
        if name not in found and path.exists():
            found[name] = str(path)
    for name in ("TMPDIR", "TMP", "TEMP"):
        found[name] = str(place / "tmp")
    return found | {
        "HOME": str(place / "home"),
        "XDG_CACHE_HOME": str(place / "cache"),
        "NODE_DISABLE_COMPILE_CACHE": "1",
    }
