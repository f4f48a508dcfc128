"""A custom permission."""

from aiorest_ws import MethodBasedView, Request
from aiorest_ws.abstract import AbstractPermission


class IsStaff(AbstractPermission):
    @staticmethod
    def check(request, handler):
        return request.user.is_staff


class Report(MethodBasedView):
    auth_required = True
    permission_classes = (IsStaff,)

    def get(self, request: Request):
        return f"for {request.user.username}"
