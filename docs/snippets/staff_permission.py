"""A custom permission."""

from aiorest_ws.abstract import AbstractPermission
from aiorest_ws.views import MethodBasedView


class IsStaff(AbstractPermission):
    @staticmethod
    def check(request, handler):
        return request.user.is_staff


class Report(MethodBasedView):
    auth_required = True
    permission_classes = (IsStaff,)

    def get(self, request):
        return f"for {request.user.username}"
