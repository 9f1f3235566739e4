"""Removing images as Docker does: the name first, the image with its last name, and what only it was made from.

An image that a container was made of is in the way: the error names the container. By force it goes all the same
when that container does not run; its layers are then kept until the container is gone.
"""

from __future__ import annotations

from specrun import events
from specrun.errors import Conflict
from specrun.oci.reference import Reference
from specrun_runtime import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from specrun.engine.container import Container
    from specrun.engine.containers import Engine
    from specrun.store.images import Image


class Removed:
    """What was done: the lines that Docker prints, `Untagged: ` and `Deleted: `, and the bytes of freed blobs."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.freed = 0

    def add(self, word: str, what: str) -> None:
        """One more line."""
        self.lines.append(f"{word}: {what}")


def remove_image(engine: Engine, name: str, *, force: bool = False, prune: bool = True) -> Removed:
    """Remove what `name` means, a reference or an id; with `prune` also untagged parents that nothing needs.

    Raises ImageNotFound, and Conflict that names the container or the images in the way.
    """
    removal = _Removal(engine)
    with engine.images.using(exclusive=True):
        removal.run(name, force, prune)
    return removal.finish()


def prune_images(engine: Engine, wanted: Callable[[Image], bool], *, all: bool = False) -> Removed:
    """Remove dangling images, or with `all` every image that no container uses, where `wanted` agrees."""
    removal = _Removal(engine)
    with engine.images.using(exclusive=True):
        for image in engine.images.all():
            if (image.references and not all) or not wanted(image) or removal.users(image):
                continue
            if removal.children(image):
                continue
            removal.delete(image, prune=True)
    return removal.finish(thorough=True)


class _Removal:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.store = engine.images
        self.done = Removed()
        self.chains = {chain for image in self.store.all() for chain in image.chain_ids}
        self.deleted: list[Image] = []

    def run(self, name: str, force: bool, prune: bool) -> None:
        image = self.store.resolve(name)
        by_id = self.store.is_id(name)
        if by_id:
            self._check(image, force, forgive_names=len(image.references) <= 1)
            self.delete(image, prune=prune)
            return
        if len(image.references) == 1 and not force and (users := self.users(image)):
            raise Conflict(
                f'conflict: unable to remove repository reference "{name}" (must force) - '
                f"container {users[0].id[:12]} is using its referenced image {image.id[7:19]}",
                hint=f"specrun rm {users[0].name}",
            )
        reference = Reference.parse(name)
        if reference.digest:  # a name with a digest means the tag that stands for it
            found = [text for text in image.references if Reference.parse(text).name == reference.name]
            reference = Reference.parse(found[0]) if found else reference
        running = any(user.state.status == state.RUNNING for user in self.users(image))
        if len(image.references) > 1 or running or self.children(image):
            self.untag(reference)  # the image stays, by its last name perhaps without one
        else:
            self.delete(image, prune=prune)

    def users(self, image: Image) -> list[Container]:
        """The containers that were made of the image."""
        return [container for container in self.engine.list(all=True) if container.image_id == image.id]

    def children(self, image: Image) -> list[Image]:
        """The images that were made from it here."""
        return [other for other in self.store.all() if other.parent == image.id and other.id != image.id]

    def untag(self, reference: Reference) -> None:
        """Take a name away; the image stays."""
        with self.store.adding():  # nothing is freed before all is decided
            self.store.untag(reference, dangling=True)
        self._untagged(reference)

    def delete(self, image: Image, *, prune: bool) -> None:
        """Take an image away with its names, in one step, and its untagged parents that nothing else needs."""
        self.store.remove(image.id, hold=bool(self.users(image)))
        self.deleted.append(image)
        for text in image.references:
            self._untagged(Reference.parse(text))
        self.done.add("Deleted", image.id)
        self._tell("delete", image.id)
        parent = next((other for other in self.store.all() if other.id == image.parent), None)
        if prune and parent and not parent.references and not self.users(parent) and not self.children(parent):
            self.delete(parent, prune=True)

    def finish(self, *, thorough: bool = False) -> Removed:
        """Free what nothing needs any more, and say which layers that were; if `thorough`, look in any case."""
        used = {container.image_id for container in self.engine.list(all=True)}
        for identity in self.store.held():
            if identity not in used:
                self.store.remove(identity)
                thorough = True
        kept = {chain for image in self.store.all() for chain in image.chain_ids}
        kept.update(chain for image in self.deleted if image.id in self.store.held() for chain in image.chain_ids)
        told: set[str] = set()
        for image in self.deleted:
            for chain in reversed(image.chain_ids):
                if chain not in kept and chain not in told:
                    told.add(chain)
                    self.done.add("Deleted", chain)
        if self.deleted or thorough:
            self.done.freed = max(0, self.store.collect())
        return self.done

    def _check(self, image: Image, force: bool, *, forgive_names: bool) -> None:
        """Refuse to remove by id what is needed; Docker's order of reasons and its words."""
        short = image.id[7:19]
        if self.children(image):
            raise Conflict(f"conflict: unable to delete {short} (cannot be forced) - image has dependent child images")
        users = self.users(image)
        for user in users:
            if user.state.status == state.RUNNING:
                raise Conflict(
                    f"conflict: unable to delete {short} (cannot be forced) - "
                    f"image is being used by running container {user.id[:12]}",
                    hint=f"specrun rm -f {user.name}",
                )
        if force:
            return
        if not forgive_names:
            raise Conflict(
                f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
            )
        if users:
            raise Conflict(
                f"conflict: unable to delete {short} (must be forced) - "
                f"image is being used by stopped container {users[0].id[:12]}",
                hint=f"specrun rm {users[0].name}",
            )

    def _untagged(self, reference: Reference) -> None:
        self.done.add("Untagged", reference.familiar)
        self._tell("untag", reference.familiar)

    def _tell(self, action: str, what: str) -> None:
        events.emit(self.engine.root, "image", action, what, {"name": what})
