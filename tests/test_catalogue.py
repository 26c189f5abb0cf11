"""What the database's own catalogue must say: every table is guarded, every function pinned."""

from sqlalchemy import text

from libs.common.database import SessionMaker

SCHEMAS = "('config', 'sync', 'delivery', 'ledger', 'limits', 'notices', 'activity')"


async def _names(sessions: SessionMaker, query: str) -> list[str]:
    async with sessions.begin() as session:
        return list((await session.scalars(text(query))).all())


async def test_every_table_that_the_api_reads_is_guarded_by_workspace(
    sessions: SessionMaker,
) -> None:
    """Proves X3."""
    readable = await _names(
        sessions,
        f"""select c.oid::regclass::text from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where n.nspname in {SCHEMAS} and c.relkind in ('r', 'p')
          and has_table_privilege('contactsync_api', c.oid, 'select')
          and c.relname <> 'outbox'""",
    )
    guarded = await _names(
        sessions,
        f"""select c.oid::regclass::text from pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where n.nspname in {SCHEMAS} and c.relrowsecurity and c.relforcerowsecurity
          and exists (select from pg_attribute a
                      where a.attrelid = c.oid and a.attname = 'workspace_id')
          and exists (select from pg_policy p where p.polrelid = c.oid and p.polname = 'workspace')
        """,
    )

    assert len(readable) > 10
    assert set(readable) <= set(guarded)


async def test_nobody_but_its_owner_writes_a_schema(sessions: SessionMaker) -> None:
    """A table is written by the role of the service that owns its schema (PROTOCOL 3)."""
    owners = {
        "config": {"contactsync_api", "contactsync_operator"},
        "sync": {"contactsync_poller"},
        "delivery": {"contactsync_writer"},
        "ledger": set(),
        "limits": set(),
        "notices": {"contactsync_notifier"},
        "activity": {"contactsync_activity"},
    }
    async with sessions.begin() as session:
        writers = await session.execute(
            text(
                f"""select n.nspname, c.relname, r.rolname from pg_class c
                join pg_namespace n on n.oid = c.relnamespace
                cross join pg_roles r
                where n.nspname in {SCHEMAS} and c.relkind in ('r', 'p')
                  and r.rolname like 'contactsync%' and r.rolname <> 'contactsync_owner'
                  and has_table_privilege(r.oid, c.oid, 'insert, update, delete')"""
            )
        )
        found = {
            (schema, table, role)
            for schema, table, role in writers
            if role not in owners[schema] and (schema, table) != ("ledger", "outbox")
        }

    assert found == set()


async def test_functions_that_act_as_the_owner_pin_their_search_path(
    sessions: SessionMaker,
) -> None:
    loose = await _names(
        sessions,
        f"""select p.oid::regprocedure::text from pg_proc p
        join pg_namespace n on n.oid = p.pronamespace
        where n.nspname in {SCHEMAS} and p.prosecdef
          and not coalesce(p.proconfig::text, '') like '%search_path=pg_catalog%'""",
    )
    public = await _names(
        sessions,
        f"""select p.oid::regprocedure::text from pg_proc p
        join pg_namespace n on n.oid = p.pronamespace
        where n.nspname in {SCHEMAS} and p.proname <> 'current_workspace'
          and has_function_privilege('public', p.oid, 'execute')""",
    )

    assert loose == []
    assert public == []


async def test_no_service_can_pass_by_row_level_security(sessions: SessionMaker) -> None:
    """Proves X3."""
    mighty = await _names(
        sessions,
        "select rolname from pg_roles where rolname like 'contactsync%' "
        "and (rolsuper or rolbypassrls or rolcreaterole)",
    )

    assert mighty == []


async def test_the_ledgers_clock_is_the_databases_own(sessions: SessionMaker) -> None:
    """Fault 47. Outside the tests of month boundaries nothing shifts it (PROTOCOL 11)."""
    [body] = await _names(
        sessions, "select prosrc from pg_proc where oid = 'ledger.now()'::regprocedure"
    )

    assert body.strip() == "select clock_timestamp()"
