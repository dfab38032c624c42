"""The sections [[respond.webhook]]: messages to a chat, a push service, or a program, by HTTPS."""

from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from sentryfw.config.form import AfterValidator, Field, model_validator
from sentryfw.config.types import Count, Directory, Duration, Section, is_loopback

TOKEN: Final = "{token}"  # noqa: S105 - a placeholder
TELEGRAM: Final = "https://api.telegram.org"
MAX_URL_BYTES: Final = 2000
_NEEDS_TOKEN: Final = ("gotify", "telegram", "matrix")
_NEEDS_TO: Final = ("telegram", "matrix")


def _url(value: str) -> str:
    if len(value) > MAX_URL_BYTES or not (value.isascii() and value.isprintable()) or " " in value:
        raise ValueError(f"write printable ASCII, at most {MAX_URL_BYTES} characters")
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("write a URL like https://hooks.example.org/services/{token}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("write a URL like https://hooks.example.org/services/{token}")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("write neither a user, nor a password, nor a fragment: use credentials")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("write https: http is for programs on this host")
    rest = value.replace(TOKEN, "")
    if "{" in rest or "}" in rest or TOKEN in parts.netloc:
        raise ValueError("the only placeholder is {token}, behind the host")
    return value


WebhookUrl = Annotated[str, AfterValidator(_url)]


class Webhook(Section):
    """A place that messages go to."""

    shape: Literal["json", "slack", "ntfy", "gotify", "telegram", "matrix"] = "json"
    """Form of the messages; slack: Mattermost, Rocket.Chat and Discord (/slack), too."""
    url: WebhookUrl | None = None
    """URL, with {token} for a secret part; of gotify and matrix the server's. None: Telegram's."""
    to: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """Chat of telegram, room of matrix."""
    credentials: Directory | None = None
    """TOML file with `token`, mode 0600."""
    when: Literal["digest", "immediate"] = "digest"
    """Blocks and refusals: collected, or sent five minutes apart at least."""
    urgent: bool = True
    """Whether urgent events are sent immediately: a block that is proven, a scanner inside, a table
    that is changed again and again, overload, a full disk."""
    every: Duration = 86400.0
    """Seconds between two digests; and until the same event is urgent again."""
    throttle: Duration = 300.0
    """Seconds between two messages with when = "immediate"."""
    ca: Directory | None = None
    """File of CA certificates; None: the system's."""
    timeout: Annotated[Duration, Field(le=120)] = 15.0
    spool: Annotated[Count, Field(ge=1, le=10_000)] = 500
    """Events of a message, and that wait while the server is unreachable; more are counted."""

    @property
    def place(self) -> str:
        """Return the URL; of Telegram it has a default."""
        return self.url or TELEGRAM

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.url is None and self.shape != "telegram":
            raise ValueError(f'shape = "{self.shape}" needs url')
        if self.credentials is None and (self.shape in _NEEDS_TOKEN or TOKEN in self.place):
            raise ValueError("the token needs credentials, a file")
        if (self.to is not None) != (self.shape in _NEEDS_TO):
            raise ValueError(
                "to is a chat of telegram or a room of matrix: needed there, and only there"
            )
        return self
