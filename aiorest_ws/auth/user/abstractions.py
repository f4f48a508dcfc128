"""The user of a request."""

from collections.abc import Callable, Iterable
from typing import Any

from aiorest_ws.auth.user.passwords import check_password, hash_password, is_outdated

__all__ = ("AbstractUser", "User")


class AbstractUser:
    """A user. Without a role (superuser, staff or user) it is anonymous.

    A subclass may pass arguments of its own through; this class and User raise TypeError for them.
    """

    def __init__(
        self,
        *args: Any,
        first_name: str = "",
        last_name: str = "",
        is_active: bool = True,
        is_superuser: bool = False,
        is_staff: bool = False,
        is_user: bool = False,
        **kwargs: Any,
    ) -> None:
        if (args or kwargs) and type(self) in (AbstractUser, User):
            wrong = next(iter(kwargs), None)
            raise TypeError(
                f"{type(self).__name__} takes keywords only"
                if wrong is None
                else f"{type(self).__name__} has no argument {wrong!r}"
            )
        self.first_name = first_name
        self.last_name = last_name
        self.is_active = is_active
        self._is_superuser = is_superuser
        self._is_staff = is_staff
        self._is_user = is_user

    def get_fullname(self) -> str:
        """Return the first and the last name."""
        return f"{self.first_name} {self.last_name}".strip()

    @property
    def is_superuser(self) -> bool:
        """Whether this is a superuser."""
        return self._is_superuser

    @property
    def is_staff(self) -> bool:
        """Whether this is a member of the staff."""
        return self._is_staff

    @property
    def is_user(self) -> bool:
        """Whether this is an ordinary user."""
        return self._is_user

    @property
    def is_anonymous(self) -> bool:
        """Whether this user has no role."""
        return not (self._is_superuser or self._is_staff or self._is_user)

    def is_authenticated(self) -> bool:
        """Tell whether this user has a role."""
        return not self.is_anonymous


class User(AbstractUser):
    """A user with a name, a password and permissions.

    `password` is the hash, in the constructor and when it is read; assigning hashes the password.
    `User()` is the anonymous user.
    """

    def __init__(
        self,
        *args: Any,
        id: int | None = None,  # noqa: A002 - a name of the contract
        username: str = "",
        password: str = "",
        email: str = "",
        permissions: Iterable[Any] = (),
        first_name: str = "",
        last_name: str = "",
        is_active: bool = True,
        is_superuser: bool = False,
        is_staff: bool = False,
        is_user: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            *args,
            first_name=first_name,
            last_name=last_name,
            is_active=is_active,
            is_superuser=is_superuser,
            is_staff=is_staff,
            is_user=is_user,
            **kwargs,
        )
        self._id = id
        self._password = password
        self.username = username
        self.email = email
        self.permissions = list(permissions)
        self.on_rehash: Callable[[str, str], None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.username!r}>"

    @property
    def id(self) -> int | None:
        """The id of the stored user, if it was loaded."""
        return self._id

    @property
    def password(self) -> str:
        """The hash of the password."""
        return self._password

    @password.setter
    def password(self, password: str) -> None:
        self._password = hash_password(password)

    def check_password(self, password: str) -> bool:
        """Tell whether `password` is correct; takes tens of milliseconds.

        If the hash is outdated (unsalted SHA-256, weaker argon2), a correct password is hashed
        again, and `on_rehash(old, new)` stores the new hash.
        """
        if not check_password(password, self._password):
            return False
        if is_outdated(self._password):
            old = self._password
            self.password = password
            if self.on_rehash is not None:
                self.on_rehash(old, self._password)
        return True

    def has_permission(self, obj: Any = None) -> bool:
        """Tell whether the user is active and has the permission `obj`."""
        return self.is_active and obj in self.permissions
