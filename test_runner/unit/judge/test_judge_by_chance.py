"""Healthy histories by chance: imports side by side, killed, moved, detached, deleted, with answers lost."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest

from reattach.api.effects import EffectClass, Front
from reattach.api.history import History
from reattach.api.ids import TenantId, TenantShardId, TimelineId
from reattach.api.shard import ShardIdentity
from reattach.fixtures.judge.neon.judge import judge
from test_runner.unit.judge.story import BUCKET, JOBS, REL, SIZE, THRESHOLD, Story, layer

HISTORIES = 30
STRIPE = 2048
NODES = ("pageserver_1", "pageserver_2")


@dataclass
class Shard:
    """One shard's import. recorded: what the controller has; job: the last one written."""

    story: Story
    recorded: int = 0
    job: int = 0
    unnamed: list[int] = field(default_factory=list)
    ended: bool = False
    deleted: bool = False

    def owns(self, job: int) -> bool:
        shard = self.story.shard
        return ShardIdentity(shard.shard_number, shard.shard_count, STRIPE).is_local(
            REL.block(64 * (job - 1))
        )


class World:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.starts = dict.fromkeys(NODES, 1)
        self.effects = 0
        first = Story()
        self.lines = first.lines
        self.shards: list[Shard] = []
        for number in range(self.chance.randint(1, 4)):
            tenant, source = TenantId(f"{number + 1:032x}"), self.chance.choice(["one", "two"])
            timeline, count = TimelineId(self.chance.choice(["bb", "dd"]) * 16), self.chance.choice([0, 2])
            for of in range(max(count, 1)):
                shard = TenantShardId(tenant, of, count)
                story = replace(first, shard=shard, timeline=timeline, source=source, _index={})
                story.pageserver = self.chance.choice(NODES)
                self.shards.append(Shard(story))
        del self.lines[1:]  # each has begun the history anew
        for one in self.shards:
            self.done(one, self.tell_of(one).begin())

    def tell_of(self, one: Shard) -> Story:
        one.story._effect, one.story.incarnation = self.effects, self.starts[one.story.pageserver]
        return one.story

    def done(self, one: Shard, _: object = None) -> None:
        self.effects = one.story._effect

    def step(self) -> None:
        one = self.chance.choice([shard for shard in self.shards if not shard.deleted] or self.shards)
        if one.deleted:
            return
        kinds = {self.work: 30, self.kill: 1, self.move: 2, self.detach: 1, self.delete: 0.2}
        (step,) = self.chance.choices(list(kinds), list(kinds.values()))
        step(one)

    def work(self, one: Shard) -> None:
        s = self.tell_of(one)
        if one.job == JOBS and not one.ended:
            if self.chance.random() < 0.3:
                self.lose(s, s.arrive_report("Done"))
            s.done()
            one.ended = True
        elif not one.ended:
            one.job += 1
            if one.owns(one.job):
                for _ in range(self.chance.choice([0, 0, 5])):
                    s.read(one.job, status=403)
                s.read(one.job)
            if self.chance.random() < 0.2:
                self.lose(s, s.arrive_put(f"{layer(one.job)}-{s.generation:08x}", SIZE))
            s.put_layer(one.job)
            one.unnamed.append(one.job)
            if one.job % THRESHOLD == 0:
                s.index(one.unnamed)
                one.unnamed = []
                again = self.chance.choice(["", "", "lost", "refused", "dropped"])
                if again == "refused":
                    s.checkpoint(one.job, 503)
                elif again == "dropped":
                    s.drop(s.reports(one.job))
                elif again == "lost":
                    self.lose(s, s.reports(one.job))
                s.checkpoint(one.job)
                one.recorded = one.job
        self.done(one)

    def lose(self, s: Story, effect: int) -> None:
        s.perform(effect)
        s.drop(effect)

    def resume(self, one: Shard) -> None:
        s = self.tell_of(one)
        if one.ended:
            s.ask(answer="Done")
        else:
            s.ask(one.recorded or None)
            one.job, one.unnamed = one.recorded, []
        self.done(one)

    def kill(self, one: Shard) -> None:
        node = one.story.pageserver
        self.done(one, self.tell_of(one).kill())
        self.starts[node] += 1
        back = [each for each in self.shards if each.story.pageserver == node and not each.deleted]
        s = self.tell_of(one)
        answer = []
        for each in back:
            each.story.generation += 1
            entry = {"id": str(each.story.shard), "gen": each.story.generation, "mode": "AttachedSingle"}
            answer.append({**entry, "stripe_size": STRIPE})
        of = EffectClass(node, "storage_controller", "post", "re-attach")
        effect = s.arrive(of, Front.HTTP, {"method": "POST", "path": "/upcall/v1/re-attach", "body": {}})
        self.done(one, s.whole(effect, body={"tenants": answer}))
        for each in back:
            self.resume(each)

    def move(self, one: Shard) -> None:
        old = one.story.pageserver
        live, first = self.chance.choice([(True, False), (False, False), (False, True)])
        s = self.tell_of(one)
        if live:
            s.location("AttachedStale", s.generation)
        if first:
            s.location("Detached")
        self.done(one)
        s.pageserver = NODES[old == NODES[0]]
        s = self.tell_of(one)
        s.generation += 1
        s.location("AttachedMulti" if live else "AttachedSingle", s.generation)
        self.done(one)
        if not first:
            self.work_in_vain(one, old)
        self.resume(one)
        if not first:
            new, s.pageserver = s.pageserver, old
            self.done(one, self.tell_of(one).location(self.chance.choice(["Detached", "Secondary"])))
            s.pageserver = new

    def work_in_vain(self, one: Shard, old: str) -> None:
        """Who has lost the shard goes on for a while."""
        s, new = one.story, one.story.pageserver
        s.pageserver, s.generation = old, s.generation - 1
        self.tell_of(one)
        for job in range(one.job + 1, min(JOBS, one.job + 3) + 1):
            if one.owns(job):
                s.read(job)
            s.put_layer(job)
        if not one.ended:
            s.checkpoint(min(JOBS, one.recorded + THRESHOLD), 412)
        self.done(one)
        s.pageserver, s.generation = new, s.generation + 1

    def detach(self, one: Shard) -> None:
        s = self.tell_of(one)
        self.done(one, s.location("Detached").attach(s.generation + 1))
        self.resume(one)

    def delete(self, one: Shard) -> None:
        """All of its import, which may be created again."""
        again = self.chance.random() < 0.5
        tenant = one.story.shard.tenant_id
        its = [each for each in self.shards if each.story.shard.tenant_id == tenant]
        for each in its:
            s = self.tell_of(each)
            s.index(deleted=True).delete()
            keys = [s.key(f"{layer(job)}-{n:08x}") for job in range(1, JOBS + 1) for n in range(1, 100)]
            keys += [s.key(f"index_part.json-{n:08x}") for n in range(1, 100)]
            of, request = EffectClass(s.pageserver, "s3", "delete"), {"operation": "DeleteObjects", "key": ""}
            s.whole(s.arrive(of, Front.S3, {**request, "bucket": BUCKET, "keys": keys}))
            self.done(each, s.bury().delete(404))
            each.deleted = True
        for each in its if again else ():
            s = self.tell_of(each)
            s._index.clear()
            self.done(each, s.create().index())
            each.recorded, each.job, each.unnamed, each.ended, each.deleted = 0, 0, [], False, False
            self.resume(each)

    def end(self) -> History:
        """All that is left to do is done."""
        for one in self.shards:
            while not one.deleted and not one.ended:
                self.work(one)
        for tenant in {one.story.shard.tenant_id for one in self.shards if not one.deleted}:
            its = [one for one in self.shards if one.story.shard.tenant_id == tenant]
            for one in its:
                self.done(one, self.tell_of(one).activate().index(done=True))
            self.done(its[0], self.tell_of(its[0]).tell())
        return History(tuple(self.lines))


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_nobody_is_blamed_for_what_chance_brings(seed: int) -> None:
    world = World(seed)
    for _ in range(world.chance.randint(20, 200)):
        world.step()
    judgement = judge(world.end())
    assert not judgement.failures, judgement.report()
