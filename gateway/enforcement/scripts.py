"""The scripts that run on Redis' primary, each atomic. Lua does not roll back: check everything, then write.

``cur`` is written last: whoever sees a revision there finds its entry and document.
"""

_STORE = """
-- A record, and its name among those of its kind, in order: a list of a million callers is read by pages.
local function store(key, value)
  local prefix = string.sub(KEYS[1], 1, -4)
  local kind, name = string.match(string.sub(key, #prefix + 1), '^(%a+):(.+)$')
  local named = kind == 'caller' or kind == 'operator' or kind == 'change'
  if value == '' then
    redis.call('DEL', key)
    if named then redis.call('ZREM', prefix .. 'names:' .. kind, name) end
  else
    redis.call('SET', key, value)
    if named then redis.call('ZADD', prefix .. 'names:' .. kind, 0, name) end
  end
end
"""

COMMIT = (
    _STORE
    + """
-- KEYS: cur log docs doc ops ops-order replicas, then one key per record
-- ARGV: epoch expected_rev expected_hash op_id rev hash entry doc_sha doc, then one value per record ('' deletes)
if redis.replicate_commands then redis.replicate_commands() end
local known = redis.call('HGET', KEYS[5], ARGV[4])
if known then return {'KNOWN', known} end
local cur = redis.call('HMGET', KEYS[1], 'epoch', 'rev', 'hash')
if cur[1] ~= ARGV[1] or cur[2] ~= ARGV[2] or cur[3] ~= ARGV[3] then
  return {'CONFLICT', cur[1] or '', cur[2] or ''}
end
if ARGV[9] == '' and redis.call('EXISTS', KEYS[4]) == 0 then return {'NODOC'} end
local info = redis.call('INFO', 'replication')
local replid = string.match(info, 'master_replid:(%x+)') or ''

redis.call('XADD', KEYS[2], ARGV[5] .. '-0', 'entry', ARGV[7])
if ARGV[9] ~= '' then redis.call('SET', KEYS[4], ARGV[9]) end
redis.call('RPUSH', KEYS[3], ARGV[8])
if redis.call('LLEN', KEYS[3]) > 100 then
  local old = redis.call('LPOP', KEYS[3])
  if not redis.call('LPOS', KEYS[3], old) then
    redis.call('DEL', string.sub(KEYS[4], 1, #KEYS[4] - #ARGV[8]) .. old)
  end
end
for i = 8, #KEYS do store(KEYS[i], ARGV[i + 2]) end
local members = redis.call('HGETALL', KEYS[7])
local answer = cjson.encode({
  rev = tonumber(ARGV[5]), hash = ARGV[6], members = members, epoch = ARGV[1], replid = replid})
redis.call('HSET', KEYS[5], ARGV[4], answer)
redis.call('RPUSH', KEYS[6], ARGV[4])
if redis.call('LLEN', KEYS[6]) > 1000 then redis.call('HDEL', KEYS[5], redis.call('LPOP', KEYS[6])) end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'rev', ARGV[5], 'hash', ARGV[6], 'doc', ARGV[8])
return {'DONE', answer}
"""
)

INIT = (
    _STORE
    + """
-- KEYS: cur log docs doc, then one key per record   ARGV: epoch rev hash entry doc_sha doc, then the records
if redis.replicate_commands then redis.replicate_commands() end
if redis.call('EXISTS', KEYS[1]) == 1 then return {'EXISTS'} end
redis.call('XADD', KEYS[2], ARGV[2] .. '-0', 'entry', ARGV[4])
redis.call('SET', KEYS[4], ARGV[6])
redis.call('RPUSH', KEYS[3], ARGV[5])
for i = 5, #KEYS do store(KEYS[i], ARGV[i + 2]) end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'rev', ARGV[2], 'hash', ARGV[3], 'doc', ARGV[5])
return {'DONE'}
"""
)

REPLACE = (
    _STORE
    + """
-- KEYS: cur log docs doc, then one key per record
-- ARGV: seen_epoch seen_rev seen_hash epoch rev hash entry doc_sha doc, then the records
-- A new epoch over a Redis that is behind, if it still is as it was seen.
if redis.replicate_commands then redis.replicate_commands() end
local cur = redis.call('HMGET', KEYS[1], 'epoch', 'rev', 'hash')
if (cur[1] or '') ~= ARGV[1] or (cur[2] or '') ~= ARGV[2] or (cur[3] or '') ~= ARGV[3] then return {'CHANGED'} end
redis.call('XADD', KEYS[2], ARGV[5] .. '-0', 'entry', ARGV[7])
redis.call('SET', KEYS[4], ARGV[9])
redis.call('RPUSH', KEYS[3], ARGV[8])
for i = 5, #KEYS do store(KEYS[i], ARGV[i + 5]) end
redis.call('HSET', KEYS[1], 'epoch', ARGV[4], 'rev', ARGV[5], 'hash', ARGV[6], 'doc', ARGV[8])
return {'DONE'}
"""
)

RENEW = """
-- KEYS: cur replicas acks
-- ARGV: member epoch rev hash swept streams_cut draining nonce host version finishing nack mac
if redis.replicate_commands then redis.replicate_commands() end
local cur = redis.call('HMGET', KEYS[1], 'epoch', 'rev', 'hash')
local was = redis.call('HGET', KEYS[2], ARGV[1])
local last = was and cjson.decode(was) or {renew_seq = 0}
if last.left then return {'GONE', ARGV[8], cur[2] or ''} end
if not cur[1] or cur[1] ~= ARGV[2] then return {'FORK', ARGV[8], cur[2] or ''} end
local rev, now = tonumber(ARGV[3]), tonumber(cur[2])
local nack = ARGV[12] ~= '' and ARGV[12] or nil
if rev < now then
  if was and last.nack ~= nack then
    last.nack = nack
    redis.call('HSET', KEYS[2], ARGV[1], cjson.encode(last))
  end
  return {'STALE', ARGV[8], cur[2]}
end
if rev > now or cur[3] ~= ARGV[4] then return {'FORK', ARGV[8], cur[2]} end
local swept, draining = tonumber(ARGV[5]), tonumber(ARGV[7])
redis.call('HSET', KEYS[2], ARGV[1], cjson.encode({
  rev = rev, hash = ARGV[4], swept = swept, renew_seq = last.renew_seq + 1,
  streams_cut = tonumber(ARGV[6]), draining = draining, host = ARGV[9], version = ARGV[10],
  finishing = ARGV[11] or '', nack = nack, mac = ARGV[13] or ''}))
local told = last.rev == rev and last.swept == swept and last.draining == draining
if not told or (last.finishing or '') ~= (ARGV[11] or '') then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', '10000', '*', 'member', ARGV[1], 'rev', ARGV[3],
    'swept', ARGV[5], 'streams_cut', ARGV[6], 'draining', ARGV[7])
end
return {'OK', ARGV[8], cur[2]}
"""

LEAVE = """
-- KEYS: replicas acks   ARGV: member seen mac
-- seen: '' for a leave of one's own; else the value that proves nobody renewed
if redis.replicate_commands then redis.replicate_commands() end
local was = redis.call('HGET', KEYS[1], ARGV[1])
if not was then
  if ARGV[2] == '' then redis.call('HSET', KEYS[1], ARGV[1], cjson.encode({left = true, left_mac = ARGV[3] or ''})) end
  return 0
end
if ARGV[2] ~= '' and was ~= ARGV[2] then return 0 end
local last = cjson.decode(was)
if last.left then return 0 end
last.left, last.left_mac = true, ARGV[3] or ''
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(last))
redis.call('XADD', KEYS[2], 'MAXLEN', '~', '10000', '*', 'member', ARGV[1], 'left', '1')
return 1
"""

RECORD = """
-- KEYS: receipts evidence   ARGV: rev view sealed
-- A revision has one receipt, whoever completes it; a lost one makes way for the next of its number.
if redis.replicate_commands then redis.replicate_commands() end
local was = redis.call('HGET', KEYS[1], ARGV[1])
if was and cjson.decode(was).basis ~= 'lost' then return 0 end
redis.call('XADD', KEYS[2], '*', 'kind', 'receipt', 'sealed', ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""

CHAIN = """
-- KEYS: chain chain-head chain-orders evidence
-- ARGV: prefix seen_seq seen_hash seq hash epoch rev keep; then per entry: id line rev raw orders…(n, names)
-- Puts entries into the chain, if it still ends where it was seen to, and takes them from where they waited.
if redis.replicate_commands then redis.replicate_commands() end
local head = redis.call('HMGET', KEYS[2], 'seq', 'hash')
if (head[1] or '') ~= ARGV[2] or (head[2] or '') ~= ARGV[3] then return {'MOVED', head[1] or '', head[2] or ''} end
local at = 9
while at < #ARGV do
  local seq, line, rev, raw, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4])
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[8], seq .. '-0', 'line', line)
  local names = {}
  for i = 1, count do
    names[i] = ARGV[at + 4 + i]
    redis.call('RPUSH', ARGV[1] .. names[i], seq)
  end
  if rev ~= '' then
    if count > 0 then redis.call('HSET', KEYS[3], rev, cjson.encode(names)) else redis.call('HDEL', KEYS[3], rev) end
  end
  if raw ~= '' then redis.call('XDEL', KEYS[4], raw) end
  at = at + 5 + count
end
redis.call('HSET', KEYS[2], 'seq', ARGV[4], 'hash', ARGV[5], 'epoch', ARGV[6], 'rev', ARGV[7])
return {'DONE'}
"""
