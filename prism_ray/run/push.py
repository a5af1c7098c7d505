"""Sending an exported dataset to the Hugging Face Hub, through the package huggingface_hub.

The repository is private, and was empty before: nothing of it is overwritten.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prism_ray.errors import HubError, UsageError

_KEPT = (".gitattributes",)  # that the Hub itself puts into a new repository


class Hub:
    """The Hub for one repository; made before the export is written, so that errors come first."""

    def __init__(self, repository: str) -> None:
        """Raises UsageError for a wrong name, a missing or wrong token, or a repository that has files.

        Raises HubError if the Hub cannot be reached.
        """
        try:
            import huggingface_hub
            from huggingface_hub.errors import HFValidationError
            from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
        except ImportError as error:
            raise UsageError(
                f"--push needs the package huggingface_hub ({error}); run `pip install 'prism-ray[hub]'`"
            ) from None
        self.repository = repository
        try:
            validate_repo_id(repository)
            if repository.count("/") != 1:
                raise HFValidationError("it has no user before the slash")
        except HFValidationError as error:
            problem = " ".join(str(error).split())
            raise UsageError(
                f"--push {repository!r}: not the name of a repository: {problem}; give USER/NAME, for "
                "example alice/digits-distilled"
            ) from None
        if huggingface_hub.get_token() is None:
            raise UsageError(
                "--push needs a token of the Hugging Face Hub with the right to write, and there is none; "
                "run `hf auth login`, or set HF_TOKEN"
            )
        self._api: Any = huggingface_hub.HfApi(library_name="prism-ray")
        with self._errors():
            self._api.whoami()
        try:
            with self._errors():
                found = self._api.list_repo_files(repository, repo_type="dataset")
        except _MissingError:
            return
        if set(found) - set(_KEPT):
            raise UsageError(
                f"--push {repository!r}: the repository exists and has files; give a new name, or delete it "
                "in its settings on the Hub"
            )

    def push(self, folder: str) -> str:
        """Create the repository, private, and send all files of a local folder; return its address."""
        with self._errors():
            url = self._api.create_repo(self.repository, repo_type="dataset", private=True, exist_ok=True)
            self._api.upload_folder(
                repo_id=self.repository,
                repo_type="dataset",
                folder_path=folder,
                commit_message="Dataset distilled by prism-ray",
            )
        return str(url)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what huggingface_hub raises into one line with a remedy."""
        from huggingface_hub import constants
        from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

        where = f"--push {self.repository!r}"
        try:
            yield
        except HfHubHTTPError as error:
            code = getattr(error.response, "status_code", None)
            problem = " ".join(str(error).split())
            if code == 401 and not isinstance(error, RepositoryNotFoundError):
                raise UsageError(
                    f"{where}: the token is not accepted; run `hf auth login` again, or correct HF_TOKEN"
                ) from None
            if code == 404 or isinstance(error, RepositoryNotFoundError):
                raise _MissingError(f"{where}: the Hub knows no such user or repository: {problem}") from None
            if code == 403:
                raise UsageError(
                    f"{where}: the token has no right to write there: {problem}; take a token with the right "
                    "to write, and a user or organisation that it belongs to"
                ) from None
            raise HubError(
                f"{where}: {constants.ENDPOINT} refused: {problem}; run the same command again later"
            ) from None
        except UsageError:
            raise
        except Exception as error:  # of httpx, of hf_xet in Rust, or of the disk
            chain = [f"{type(each).__name__}: {each}" for each in (error, error.__cause__) if each]
            problem = " ".join("; ".join(chain).split())
            raise HubError(
                f"{where}: {constants.ENDPOINT} cannot be reached, or broke off: {problem}; look whether "
                "this machine has a way to it (HF_ENDPOINT, a proxy, HF_HUB_OFFLINE), then run the same "
                "command again"
            ) from None


class _MissingError(UsageError):
    """There is no such repository."""
