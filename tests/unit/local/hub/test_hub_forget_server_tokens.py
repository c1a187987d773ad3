"""What a stranger on the hub's old port may have seen is no longer valid; what users made for themselves stays."""

from __future__ import annotations

from pathlib import Path

from jupyterhub import orm

from tidehub.local.hub.forget_tokens import forget_server_tokens


def test_tokens_of_servers_are_deleted_and_no_others(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/hub.sqlite"
    assert forget_server_tokens(address) == 0
    assert not list(tmp_path.iterdir()), "no database is made where there is none"

    session = orm.new_session_factory(address)()
    alice, service = orm.User(name="alice"), orm.Service(name="culler")
    session.add_all([alice, service])
    for client in ("jupyterhub", "jupyterhub-user-alice", "service-dask-gateway"):
        session.add(orm.OAuthClient(identifier=client, secret="", redirect_uri=""))
    session.commit()
    gone = [
        alice.new_api_token(note="Server at /user/alice/", scopes=[]),
        alice.new_api_token(note="Server at /user/alice/second/", scopes=[]),
        alice.new_api_token(note="browser", scopes=[], oauth_client=_client(session)),
    ]
    kept = [
        alice.new_api_token(note="my script; not Server at all", scopes=[]),
        service.new_api_token(note="from the configuration", scopes=[]),
    ]
    session.commit()
    assert forget_server_tokens(address) == len(gone)
    session.expire_all()
    assert [orm.APIToken.find(session, token) for token in gone] == [None] * len(gone)
    assert all(orm.APIToken.find(session, token) for token in kept)
    session.close()


def _client(session: object) -> object:
    query = session.query(orm.OAuthClient)  # type: ignore[attr-defined]
    return query.filter_by(identifier="jupyterhub-user-alice").one()
