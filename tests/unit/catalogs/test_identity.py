from __future__ import annotations

import re

from arvfuse.catalogs.identity import COLLECTION, GROUP, USER, new_cluster, new_uuid, new_writer, system_user


def test_uuids_have_the_form_of_arvados():
    assert (COLLECTION, GROUP, USER) == ("4zz18", "j7d0g", "tpzed")
    cluster = new_cluster()
    assert re.fullmatch("[0-9a-z]{5}", cluster)
    assert re.fullmatch(f"{cluster}-4zz18-[0-9a-z]{{15}}", new_uuid(cluster, COLLECTION))
    assert system_user("zzzzz") == "zzzzz-tpzed-000000000000000"


def test_identities_differ():
    assert len({new_uuid("zzzzz", GROUP) for _ in range(100)}) == 100
    assert new_writer() != new_writer()
