from __future__ import annotations

import os
import signal

import pytest

from recsys.errors import InterruptedRunError, TemporaryError, UsageError
from recsys.execution import signals as stop
from recsys.execution.local import LocalExecutor
from recsys.execution.shards import Shard, plan_shards
from tests.suites import ExecutorSuite, NotingTask


class TestLocal(ExecutorSuite):
    def make(self):
        return LocalExecutor()

    def test_results_come_in_order_and_only_when_asked_for(self):
        task = NotingTask()
        results = LocalExecutor().map(task, plan_shards("r", "s", 3))
        assert task.log == []
        next(results)
        assert task.log == ["setup", 0]
        assert [shard.index for shard, _ in results] == [1, 2]

    def test_a_retry_is_said_aloud(self, caplog):
        list(
            LocalExecutor().map(
                NotingTask(trouble={1: [TemporaryError("database away")]}), plan_shards("r", "score", 2), retries=2
            )
        )
        assert "score shard 1 of 2 failed (database away); retrying, 1 of 2" in caplog.text

    def test_more_workers_than_one_are_refused_at_once(self):
        with pytest.raises(UsageError, match="one worker, not 2"):
            LocalExecutor().map(NotingTask(), plan_shards("r", "s", 3), workers=2)

    def test_a_signal_stops_between_two_shards(self):
        task = NotingTask()
        with stop.handle_signals(), pytest.raises(InterruptedRunError) as caught, stop.defer_signals():
            for shard, _ in LocalExecutor().map(task, plan_shards("r", "s", 5)):
                if shard.index == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
        assert caught.value.exit_code == 143 and task.log == ["setup", 0, 1]


class TestPlan:
    def test_what_is_done_is_left_out(self):
        assert [shard.index for shard in plan_shards("r", "s", 6, finished={0, 3, 9})] == [1, 2, 4, 5]
        assert list(plan_shards("r", "s", 0)) == []
        assert next(plan_shards("r", "s", 2)) == Shard("r", "s", 0, 2)

    @pytest.mark.parametrize("parts", [1, 2, 3, 7])
    def test_the_parts_together_are_the_whole(self, parts):
        shares = [[shard.index for shard in plan_shards("r", "s", 5, part=part, parts=parts)] for part in range(parts)]
        assert sorted(index for share in shares for index in share) == list(range(5))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1

    @pytest.mark.parametrize(("part", "parts"), [(2, 2), (-1, 2), (0, 0)])
    def test_a_part_that_does_not_exist(self, part, parts):
        with pytest.raises(UsageError, match=f"part {part} of {parts}"):
            plan_shards("r", "s", 5, part=part, parts=parts)

    @pytest.mark.parametrize("index", [-1, 4])
    def test_a_shard_that_does_not_exist(self, index):
        with pytest.raises(UsageError, match="does not exist"):
            Shard("r", "s", index, 4)
