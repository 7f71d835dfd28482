"""Why a login through an identity provider fails: a generic answer for the browser, a precise word for the tenant's log."""

from nexusrag.kernel.errors import ApiError, ErrorCode

_ANSWERS = {
    ErrorCode.SSO_INVALID_STATE: "This login is unknown or over, or was begun in another browser; begin again.",
    ErrorCode.SSO_TOKEN_EXCHANGE_FAILED: "The identity provider did not complete the login; begin again, or ask an admin.",
    ErrorCode.SSO_ID_TOKEN_INVALID: "What the identity provider said about you cannot be accepted; ask an admin.",
    ErrorCode.SSO_JIT_DISABLED: "No account here is open to this identity; ask an admin.",
}


class LoginRefused(ApiError):
    """A refused login. `reason` is ours alone: a few words that hold nothing of what the browser or the provider sent."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(code, _ANSWERS[code])
        self.reason = reason


def state_invalid(reason: str) -> LoginRefused:
    return LoginRefused(ErrorCode.SSO_INVALID_STATE, reason)


def exchange_failed(reason: str) -> LoginRefused:
    return LoginRefused(ErrorCode.SSO_TOKEN_EXCHANGE_FAILED, reason)


def token_invalid(reason: str) -> LoginRefused:
    return LoginRefused(ErrorCode.SSO_ID_TOKEN_INVALID, reason)


def no_account(reason: str) -> LoginRefused:
    """For strangers, and in the same words for whoever is disabled."""
    return LoginRefused(ErrorCode.SSO_JIT_DISABLED, reason)


def provider_missing() -> ApiError:
    """The same for a provider that does not exist, is disabled, or belongs to a suspended tenant."""
    return ApiError(ErrorCode.SSO_PROVIDER_NOT_FOUND, "No such identity provider.")
