"""Single sign-on by OpenID Connect: identity providers, logins through them, and which of our people a login is. Owns no users."""
