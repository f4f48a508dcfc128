"""Users."""

import pytest

from aiorest_ws.auth.user.abstractions import AbstractUser, User


def test_the_user_without_anything_is_anonymous():
    user = User()
    assert (user.id, user.username, user.password, user.email) == (None, "", "", "")
    assert (user.first_name, user.last_name, user.get_fullname()) == ("", "", "")
    assert user.permissions == []
    assert user.is_active
    assert user.is_anonymous
    assert not user.is_authenticated()
    assert (user.is_superuser, user.is_staff, user.is_user) == (False, False, False)


@pytest.mark.parametrize("role", ["is_superuser", "is_staff", "is_user"])
@pytest.mark.parametrize("kind", [AbstractUser, User])
def test_a_role_makes_a_user_known(kind, role):
    user = kind(**{role: True})
    assert getattr(user, role) is True
    assert not user.is_anonymous
    assert user.is_authenticated() is True


def test_roles_cannot_be_changed_on_a_user():
    for name in ("is_superuser", "is_staff", "is_user", "is_anonymous", "id"):
        with pytest.raises(AttributeError):
            setattr(User(), name, True)


@pytest.mark.parametrize(
    ("names", "full"),
    [(("Anna", "Berg"), "Anna Berg"), (("Anna", ""), "Anna"), (("", "Berg"), "Berg")],
)
def test_full_name(names, full):
    assert User(first_name=names[0], last_name=names[1]).get_fullname() == full


def test_what_a_user_is_can_be_changed():
    user = User(id=3, username="anna", email="a@b.c", first_name="A")
    user.username, user.email, user.is_active, user.permissions = "ben", "d@e.f", False, ["x"]
    assert (user.id, user.username, user.email) == (3, "ben", "d@e.f")
    assert (user.is_active, user.permissions) == (False, ["x"])


def test_permissions_are_a_list_of_the_users_own():
    given = ["read"]
    first, second = User(permissions=given), User()
    first.permissions.append("write")
    assert (given, second.permissions, User().permissions) == (["read"], [], [])
    assert first.has_permission("write")
    assert not first.has_permission("delete")
    assert not second.has_permission()


def test_an_inactive_user_has_no_permission():
    assert not User(permissions=["read"], is_active=False).has_permission("read")


def test_unknown_keywords_are_refused():
    for kind in (AbstractUser, User):
        with pytest.raises(TypeError, match="is_suoeruser"):
            kind(is_suoeruser=True)


def test_repr_shows_no_password():
    user = User(username="anna", password="the-hash")
    assert repr(user) == "<User 'anna'>"
