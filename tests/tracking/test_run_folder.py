import json

from raybert.storage import Location
from raybert.tracking import RunFolder
from raybert.tracking.environment import describe_launch, new_launch


def test_each_launch_leaves_its_facts(tmp_path):
    folder = RunFolder(Location.parse(tmp_path / "run"))
    for _ in range(2):
        folder.record_launch(describe_launch(new_launch()))
    lines = (tmp_path / "run" / "launches.jsonl").read_text().splitlines()
    assert len(lines) == 2
    facts = json.loads(lines[1])
    assert facts["versions"]["torch"]
    assert facts["host"]


def test_what_is_logged_of_a_remote_run_arrives_there(s3_bucket):
    bucket, _, query = s3_bucket.partition("?")
    location = Location.parse(f"{bucket}/logged?{query}")
    folder = RunFolder(location)
    (folder.logs("first") / "driver.log").write_text("one\n")
    folder.sync()
    (folder.logs("first") / "driver.log").write_text("one\ntwo\n")
    folder.close()
    assert (location / "logs/first/driver.log").read_text() == "one\ntwo\n"
    assert not folder.local.exists()
