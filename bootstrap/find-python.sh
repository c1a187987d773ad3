# Sets `python` to a Python that ./tidehub and ./test can start from, or ends with what to install, as JSON where the
# arguments have --json. Read by sh.
# Versioned names need no look inside; the system's own come first, because every user can reach them.

find_python() {
    if [ -n "${TIDEHUB_PYTHON:-}" ]; then
        python=$TIDEHUB_PYTHON
        return
    fi
    for folder in /usr/bin /usr/local/bin; do
        for minor in 11 12 13 14; do
            python=$folder/python3.$minor
            [ -x "$python" ] && return
        done
    done
    for name in python3.11 python3.12 python3.13 python3.14 python3; do
        python=$(command -v "$name") || continue
        "$python" -I -S -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null && return
    done
    what="no Python 3.11 to 3.14 was found on this machine"
    fix="install one, for example with: apt-get install python3 (Debian 12, Ubuntu 24.04 or newer)"
    case " $* " in
    *" --json "*)
        printf '{"ok": false, "what": "%s", "where": null, "expected": null, "fix": "%s"}\n' "$what" "$fix"
        ;;
    *)
        echo "tidehub: $what" >&2
        echo "  to do: $fix" >&2
        ;;
    esac
    exit 1
}
