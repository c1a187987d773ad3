"""Endpoints that users meet: authorization, signing in, signing out."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlencode, urlsplit

from oauthlib.oauth2 import FatalClientError, InvalidRequestFatalError, OAuth2Error

from tidehub.identity.accounts import Account
from tidehub.identity.handlers.base import Page, log
from tidehub.identity.protocol import Parameters, parse_parameters, unique, with_parameters
from tidehub.identity.sessions import Session
from tidehub.identity.throttle import in_words

_BROKEN = "This link cannot be used"
_NOT_REGISTERED = (
    "The application that sent you here, or the address to return to, is not registered (client_id, redirect_uri). "
    "The operator of this site can change that: both must be the same, character by character."
)
_FOREIGN = "This form was not sent from here"


class SigningIn(Page):
    """What authorization, the sign-in form and the account page share."""

    def signed_in(self) -> tuple[Session, Account] | None:
        """The session of this browser and its account, or None."""
        session = self.provider.sessions.find(self.cookie(self.provider.session_cookie), self.provider.now())
        account = self.provider.accounts.by_sub(session.sub) if session else None
        return (session, account) if session and account else None

    def form_values(self) -> dict[str, Any]:
        """The hidden proof of a form, with its cookie set when the browser has none yet."""
        name = self.provider.form_cookie
        cookie = self.cookie(name) or self.provider.new_form_cookie()
        self.keep(name, cookie)
        return {"form_token": self.provider.form_token(cookie)}

    def ask_to_sign_in(
        self,
        parameters: Parameters,
        *,
        username: str = "",
        problem: str = "",
        status: int = 200,
    ) -> None:
        """Show the form. It carries the whole authorization request, if any, which is judged again afterwards."""
        redirect_uri = self.provider.config.client.redirect_uri
        self.show(
            "login",
            status=status,
            leads_to=[redirect_uri] if parameters else [],
            request=urlencode(list(parameters)),
            client=urlsplit(redirect_uri).netloc if parameters else "",
            username=username,
            problem=problem,
            **self.form_values(),
        )

    def refuse(self, error: OAuth2Error) -> None:
        """Refuse an authorization request: to the hub, or on a page when it is not the hub that asks."""
        if isinstance(error, FatalClientError):
            twice = type(error) is InvalidRequestFatalError
            self.show_error(_BROKEN, error.description if twice else _NOT_REGISTERED)
        else:
            self.send_to(self.provider.with_issuer(error.in_uri(error.redirect_uri)))


class Authorize(SigningIn):
    """The authorization endpoint (OpenID Connect Core, 3.1.2)."""

    def get(self) -> None:
        try:
            parameters = self.request_parameters()
        except ValueError:
            self.show_error(_BROKEN, "Its parameters cannot be understood. Go back and start again.")
            return
        if not self.opened_by_a_user():
            self.show_error(_BROKEN, "Signing in works only as a page of its own.", status=403)
            return
        found = self.signed_in()
        try:
            if found is not None:
                self.send_to(self.provider.way_back(parameters, found[0]))
                return
            self.provider.judge(parameters)
        except OAuth2Error as error:
            self.refuse(error)
            return
        self.ask_to_sign_in(parameters)

    post = get


class Login(SigningIn):
    """Where the sign-in form is sent to."""

    def get(self) -> None:
        """Someone reloaded the page after an error: the request is gone, the account page helps."""
        self.send_to(f"{self.provider.config.prefix}/")

    async def post(self) -> None:
        try:
            form = unique(self.form_parameters())
            parameters = parse_parameters(form.get("request", ""))
        except ValueError:
            self.show_error(_BROKEN, "The form cannot be understood. Go back and start again.")
            return
        if not (self.opened_by_a_user() and self.sent_from_here()):
            self.show_error(_FOREIGN, "Go back to the site that you came from and start again.", status=403)
            return
        if parameters:
            try:
                self.provider.judge(parameters)
            except OAuth2Error as error:
                self.refuse(error)
                return
        username, password = form.get("username", ""), form.get("password", "")
        if not self.provider.form_is_ours(self.cookie(self.provider.form_cookie), form.get("form_token")):
            problem = "This page was open for too long, or cookies are blocked. Please sign in again."
            self.ask_to_sign_in(parameters, username=username, problem=problem, status=403)
            return
        if not username.strip() or not password:
            problem = "Enter both your username and your password."
            self.ask_to_sign_in(parameters, username=username, problem=problem, status=400)
            return
        outcome = await self.provider.sign_in(username, password, self.client_address)
        if outcome.account is None:
            self._try_again(parameters, username, outcome.wait, outcome.tried)
            return
        log.info("%s signed in", outcome.account.username)
        cookie, session = self.provider.sessions.begin(
            outcome.account.sub, self.provider.now(), replaces=self.cookie(self.provider.session_cookie)
        )
        self.keep(self.provider.session_cookie, cookie)
        self.keep(self.provider.form_cookie, self.provider.new_form_cookie())
        if parameters:
            self.send_to(self.provider.way_back(parameters, session))
        else:
            self.send_to(f"{self.provider.config.prefix}/")

    def _try_again(self, parameters: Parameters, username: str, wait: float, tried: bool) -> None:
        # The name stays out of the log: users type passwords into that field.
        address = self.client_address or "this machine, past the proxy"
        log.warning("sign-in refused from %s (%s)", address, "wrong" if tried else "throttled")
        problem = "Wrong username or password." if tried else "Too many failed attempts."
        if wait > 0:
            problem += f" You can try again in {in_words(wait)}."
            self.set_header("Retry-After", str(math.ceil(wait)))
        status = 403 if tried else 429
        self.ask_to_sign_in(parameters, username=username, problem=problem, status=status)


class AccountPage(SigningIn):
    """Who is signed in here; the provider's front page."""

    def get(self) -> None:
        found = self.signed_in()
        if found is None:
            self.ask_to_sign_in([])
            return
        self.show("account", account=found[1], **self.form_values())


class Logout(SigningIn):
    """The end-session endpoint (OpenID Connect RP-Initiated Logout 1.0), and our own sign-out form."""

    def get(self) -> None:
        try:
            given = unique(self.request_parameters())
        except ValueError:
            self.show_error(_BROKEN, "Its parameters cannot be understood.")
            return
        confirmed = "form_token" in given and self.request.method == "POST"
        if confirmed and not self._form_is_ours(given):
            return
        hint = self.provider.hint(given["id_token_hint"]) if "id_token_hint" in given else None
        if "id_token_hint" in given and hint is None:
            self._bad_link("it names a sign-in that did not happen here (id_token_hint)")
            return
        client = self.provider.config.client
        if given.get("client_id") not in (None, client.client_id):
            self._bad_link("it belongs to another application (client_id)")
            return
        target = None
        if "post_logout_redirect_uri" in given:
            known = hint is not None or "client_id" in given
            if not known or given["post_logout_redirect_uri"] not in client.post_logout_redirect_uris:
                self._bad_link("the address to return to is not registered (post_logout_redirect_uri)")
                return
            state = [("state", given["state"])] if "state" in given else []
            target = with_parameters(given["post_logout_redirect_uri"], state)
        if hint is not None and isinstance(hint.get("sid"), str):
            # Works without the cookie as well: browsers keep it back in a POST from elsewhere.
            self.provider.sign_out(hint["sid"])
        found = self.signed_in()
        if found is None or confirmed or (hint is not None and hint["sub"] == found[0].sub):
            self._finish(found, target)
            return
        kept = {
            name: given[name] for name in ("client_id", "post_logout_redirect_uri", "state") if name in given
        }
        if hint is not None:
            kept["client_id"] = client.client_id
        leads_to = [target] if target else []
        self.show("logout", account=found[1], kept=kept, leads_to=leads_to, **self.form_values())

    post = get

    def _form_is_ours(self, given: dict[str, str]) -> bool:
        ours = self.provider.form_is_ours(self.cookie(self.provider.form_cookie), given["form_token"])
        if ours and self.opened_by_a_user() and self.sent_from_here():
            return True
        self.show_error(
            _FOREIGN, "You are still signed in. Go back, reload the page and try again.", status=403
        )
        return False

    def _finish(self, found: tuple[Session, Account] | None, target: str | None) -> None:
        if found is not None:
            self.provider.sign_out(found[0].sid)
            log.info("%s signed out", found[1].username)
        self.forget(self.provider.session_cookie)
        self.forget(self.provider.form_cookie)
        if target is not None:
            self.send_to(target)
        else:
            self.show("signed_out")

    def _bad_link(self, why: str) -> None:
        self.show_error("This sign-out link cannot be used", f"You were not signed out by it: {why}.")
