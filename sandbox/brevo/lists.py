"""Folders and the lists in them.

A list has one folder; deleting a folder deletes its lists; deleting a list keeps its contacts.
The totals of lists are 0, as Brevo is dropping them: `uniqueSubscribers` counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sandbox.brevo import errors

FIRST_FOLDER, FIRST_LIST = "Your first folder", "Your first list"


@dataclass(slots=True)
class Folder:
    id: int
    name: str


@dataclass(slots=True)
class ContactList:
    id: int
    name: str
    folder_id: int
    created_us: int


class Lists:
    """The folders and lists of one account, which begins with one of each."""

    def __init__(self, now_us: int) -> None:
        self._folders: dict[int, Folder] = {}
        self._lists: dict[int, ContactList] = {}
        self._last_id = 0  # Brevo counts folders and lists together.
        folder = self.create_folder(FIRST_FOLDER)
        self.create(FIRST_LIST, folder.id, now_us)

    def __iter__(self) -> Iterator[ContactList]:
        return iter(self._lists.values())

    def __contains__(self, list_id: object) -> bool:
        return list_id in self._lists

    @property
    def folders(self) -> list[Folder]:
        return list(self._folders.values())

    def create_folder(self, name: str) -> Folder:
        self._last_id += 1
        folder = Folder(self._last_id, name)
        self._folders[folder.id] = folder
        return folder

    def folder(self, folder_id: int) -> Folder:
        if folder_id not in self._folders:
            errors.unknown("Folder ID does not exist")
        return self._folders[folder_id]

    def in_folder(self, folder_id: int) -> list[ContactList]:
        self.folder(folder_id)
        return [each for each in self if each.folder_id == folder_id]

    def delete_folder(self, folder_id: int) -> list[ContactList]:
        """Remove a folder with its lists, which are returned."""
        gone = self.in_folder(folder_id)
        del self._folders[folder_id]
        for each in gone:
            del self._lists[each.id]
        return gone

    def create(self, name: str, folder_id: int, now_us: int) -> ContactList:
        """Add a list; raises `RefusedError` if there is no such folder."""
        if folder_id not in self._folders:
            errors.invalid("Folder ID does not exist")
        self._last_id += 1
        created = ContactList(self._last_id, name, folder_id, now_us)
        self._lists[created.id] = created
        return created

    def get(self, list_id: int) -> ContactList:
        if list_id not in self._lists:
            errors.unknown("List ID does not exist")
        return self._lists[list_id]

    def named(self, name: str) -> ContactList | None:
        return next((each for each in self if each.name == name), None)

    def move(self, moved: ContactList, folder_id: int) -> None:
        if folder_id not in self._folders:
            errors.invalid("Folder ID does not exist")
        moved.folder_id = folder_id

    def delete(self, list_id: int) -> ContactList:
        gone = self.get(list_id)
        del self._lists[list_id]
        return gone
