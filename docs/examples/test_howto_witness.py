"""Crash points, without asking the engine. Each is a how-to in docs/witness.md."""

from reattach.api.effects import Phase
from reattach.api.plan import Step


def test_kill_before_a_checkpoint_is_recorded(neon_env_builder, import_bucket):
    env = neon_env_builder.init_start()
    status = "pageserver_1 > storage_controller: post status 0000"
    env.world.add_steps([Step(at=f"{status} #2", when=Phase.BEFORE, do=("kill pageserver_1",))])

    timeline = env.start_import(import_bucket)
    assert env.world.steps(happened=1, timeout=30).happened == 1
    env.pageserver.start()

    timeline.wait_done()
    timeline.assert_equals(import_bucket)


def test_lose_an_answer_then_kill_the_controller(neon_env_builder, import_bucket):
    env = neon_env_builder.init_start()
    status = "pageserver_1 > storage_controller: post status 0000"
    env.world.add_steps(
        [
            Step(at=f"{status} #1", when=Phase.AFTER, do=("lose answer",)),
            Step(at=f"{status} +1", when=Phase.AFTER, do=("kill storage_controller",)),
        ]
    )
    timeline = env.start_import(import_bucket)
    assert env.world.steps(happened=2, timeout=30).happened == 2
    env.storage_controller.start()

    timeline.wait_done()


def test_look_at_what_happened(neon_env_builder, import_bucket):
    env = neon_env_builder.init_start()
    env.start_import(import_bucket).wait_done()

    effects = env.world.history().effects()
    told = [effect for effect in effects if str(effect.name.of).endswith("put import_complete")]
    assert [effect.succeeded for effect in told] == [True]
