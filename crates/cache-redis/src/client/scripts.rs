//! The Lua scripts, for what no single command does in one step.
//!
//! Every script touches one key. Numbers go in and out as text: Lua's own are doubles.

use std::sync::LazyLock;

use redis::{Cmd, Script, cmd};

/// Reads a stored entry the way [`cache_core::wire`] does: `live` at `now`, where its payload
/// begins (nil where the format is unknown), and its deadlines. What is no string is foreign and
/// live; any other refusal is the script's answer.
const LOOK: &str = r"
local function look(stored, now)
  if not stored then return false end
  if string.byte(stored, 1) ~= 255 or string.byte(stored, 2) ~= 202 then
    return true, 1, 0, 0
  end
  if #stored < 30 or string.byte(stored, 3) ~= 1 or string.byte(stored, 4) ~= 30 then
    return true, nil, 0, 0
  end
  local expiry, stale = struct.unpack('>I8I8', stored, 15)
  return expiry == 0 or expiry > now, 31, expiry, stale
end
local now = math.max(tonumber(ARGV[1]), 1)
local stored = redis.pcall('GET', KEYS[1])
local foreign = type(stored) == 'table'
if foreign and string.sub(stored.err, 1, 9) ~= 'WRONGTYPE' then return stored end
local live, from, expiry, stale = true, nil, 0, 0
if not foreign then live, from, expiry, stale = look(stored, now) end
";

/// ARGV: now, condition, new stored form, time to keep in ms or empty, expected payload, whether
/// finding the new payload counts as done, new payload's offset.
const SET_IF: &str = r"
local holds
if ARGV[2] == 'absent' then holds = not live
elseif ARGV[2] == 'present' then holds = live
else holds = live and from and string.sub(stored, from) == ARGV[5] end
if not holds then
  if ARGV[6] == '1' and live and from
    and string.sub(stored, from) == string.sub(ARGV[3], tonumber(ARGV[7])) then return 1 end
  return 0
end
if ARGV[4] == '' then redis.call('SET', KEYS[1], ARGV[3])
else redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) end
return 1
";

/// ARGV: now, expected payload.
const DELETE_IF: &str = r"
if live and from and string.sub(stored, from) == ARGV[2] then
  return redis.call('DEL', KEYS[1])
end
return 0
";

/// ARGV: now, new time to live in ms or empty for ever. An entry of unknown format keeps its
/// header and so cannot be moved: -1.
const EXPIRE: &str = r"
if not live then return 0 end
if not foreign and not from then return -1 end
if from == 31 then
  local fresh, kept = 0, 0
  if ARGV[2] ~= '' then
    fresh = now + tonumber(ARGV[2])
    kept = fresh
    if expiry > 0 and stale > expiry then kept = fresh + stale - expiry end
  end
  redis.call('SETRANGE', KEYS[1], 14, struct.pack('>I8I8', fresh, kept))
  if kept > 0 then return redis.call('PEXPIRE', KEYS[1], string.format('%.0f', kept - now)) end
elseif ARGV[2] ~= '' then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
redis.call('PERSIST', KEYS[1])
return 1
";

/// ARGV: now.
const EXPIRE_NOW: &str = r"
if not live then return 0 end
if not foreign and not from then return -1 end
local budget = 0
if expiry > 0 and stale > expiry then budget = stale - expiry end
if budget == 0 then return redis.call('DEL', KEYS[1]) end
redis.call('SETRANGE', KEYS[1], 14, struct.pack('>I8I8', now, now + budget))
return redis.call('PEXPIRE', KEYS[1], string.format('%.0f', budget))
";

/// ARGV: now. Removes an entry past its time to live, so that a counter can start in its place.
const DROP_EXPIRED: &str = r"
if stored and not live then return redis.call('DEL', KEYS[1]) end
return 0
";

static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    set_if: Lua::new(SET_IF),
    delete_if: Lua::new(DELETE_IF),
    expire: Lua::new(EXPIRE),
    expire_now: Lua::new(EXPIRE_NOW),
    drop_expired: Lua::new(DROP_EXPIRED),
});

/// The scripts with their hashes, computed once a process.
pub(super) struct Scripts {
    pub(super) set_if: Lua,
    pub(super) delete_if: Lua,
    pub(super) expire: Lua,
    pub(super) expire_now: Lua,
    pub(super) drop_expired: Lua,
}

impl Scripts {
    pub(super) fn get() -> &'static Self {
        &SCRIPTS
    }
}

/// A script and the hash by which a server knows it.
pub(super) struct Lua {
    body: String,
    script: Script,
}

impl Lua {
    fn new(body: &str) -> Self {
        let body = format!("{LOOK}{body}");
        let script = Script::new(&body);
        Self { body, script }
    }

    /// Runs the script by its hash. A server that has not seen it, after a restart or a failover,
    /// answers NOSCRIPT without doing anything.
    pub(super) fn by_hash(&self, key: &str, args: &[&[u8]]) -> Cmd {
        let hash = self.script.get_hash();
        call("EVALSHA", hash, key, args)
    }

    /// Runs the script by its text, which also teaches it to the server.
    pub(super) fn by_text(&self, key: &str, args: &[&[u8]]) -> Cmd {
        call("EVAL", &self.body, key, args)
    }
}

fn call(name: &str, script: &str, key: &str, args: &[&[u8]]) -> Cmd {
    let mut command = cmd(name);
    command.arg(script).arg(1).arg(key);
    for arg in args {
        command.arg(*arg);
    }
    command
}
