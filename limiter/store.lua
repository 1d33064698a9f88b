-- store.lua - what Redis does for a fleet: one atomic step of one host, on counters that all hosts share.
--
-- The rule is window.c's: a charge counts without expiring from before it may be used until the host has said what came
-- of it, and afterwards for the length of the window, from the moment at which Redis heard of it. All stamps are of one
-- clock, the server's; no host's clock matters. What a host says is absolute: how much it has used and given back since
-- its session began, and how much it wants to hold. So any call may come twice, late, or never be answered.
--
-- KEYS[1]   the fleet: epoch, run (of the server process), begun, time (never goes back), roll (its version), whole,
--           corrected (how often);
--           m:HOST = session, state, joined, known (versions of the roll), last, widest (ms), its clock
-- KEYS[2..] counters: h:HOST = session, granted, settled, returned; b:N = settled in bucket N; of a calendar u = settled,
--           e = end of its period; s:HOST = has told what it used before this epoch; x = an operator has set it
-- ARGV      step, epoch, host, session, run; then by step. Numbers are decimal, times milliseconds.
local JOINED, READY = 1, 2      -- states of a member; 0: known by name only
local SILENT = 7200000          -- after so long without a word, what a host held is taken as used (lib: fleet.h)
local ALIVE = 15000             -- heard of within so long: three heartbeats
local BUCKETS = 128             -- per window; one more is counted, so that no span holds too much
local SLACK = 172800000         -- calendars' periods are not all of one length

local step, epoch, host, session, run = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local at = 5

local function word()
	at = at + 1
	return ARGV[at]
end

local function number()
	return tonumber(word())
end

local function text(n)
	return string.format('%.0f', n)
end

local function hash(key)
	local flat, fields = redis.call('HGETALL', key), {}
	for i = 1, #flat, 2 do
		fields[flat[i]] = flat[i + 1]
	end
	return fields
end

local fleet = hash(KEYS[1])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
if fleet.epoch and fleet.run == run then
	now = math.max(now, tonumber(fleet.time))
end

--- members

local members = {}
for name, value in pairs(fleet) do
	local id = string.match(name, '^m:(.+)$')
	if id then
		local s, state, joined, known, last, widest, clock_there =
			string.match(value, '^(%S+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+)$')
		members[id] = { session = s, state = tonumber(state), joined = tonumber(joined), known = tonumber(known),
			last = tonumber(last), widest = tonumber(widest), clock = tonumber(clock_there) }
	end
end

local function set_member(id, m)
	members[id] = m
	redis.call('HSET', KEYS[1], 'm:' .. id, string.format('%s %d %s %s %s %s %s', m.session, m.state, text(m.joined),
		text(m.known), text(m.last), text(m.widest), text(m.clock)))
end

local function set_roll(version)
	fleet.roll = text(version)
	redis.call('HSET', KEYS[1], 'roll', fleet.roll)
end

-- Nothing of theirs counts any more.
local function drop_the_forgotten()
	for id, m in pairs(members) do
		if m.last + m.widest + SILENT + SLACK < now then
			members[id] = nil
			redis.call('HDEL', KEYS[1], 'm:' .. id)
			set_roll(tonumber(fleet.roll) + 1)
		end
	end
end

-- In a new epoch the counters are empty: nobody gets anything before all who are known have told what they used.
local function look_whether_whole()
	if fleet.whole == '1' then
		return
	end
	for _, m in pairs(members) do
		if m.state ~= READY then
			return
		end
	end
	fleet.whole = '1'
	redis.call('HSET', KEYS[1], 'whole', '1')
end

-- Whoever may hold something is in the durable roll of all the others: so that no loss of data makes it forgotten.
local function is_known_to_all(id)
	local me = members[id]
	if me.joined == 0 then
		return true
	end
	for other, m in pairs(members) do
		if other ~= id and m.state ~= 0 and m.known < me.joined and m.last + SILENT >= now then
			return false, other
		end
	end
	me.joined = 0
	set_member(id, me)
	return true
end

local function touch_fleet()
	local widest = 0
	for _, m in pairs(members) do
		widest = math.max(widest, m.widest)
	end
	redis.call('HSET', KEYS[1], 'time', text(now))
	redis.call('PEXPIRE', KEYS[1], text(widest + 2 * SILENT + 2 * SLACK))
end

local function begin_epoch(fresh)
	local version = tonumber(fleet.roll or '0') + 1
	redis.call('DEL', KEYS[1])
	fleet = { epoch = fresh, run = run, begun = text(now), time = text(now), roll = text(version), whole = '0' }
	redis.call('HSET', KEYS[1], 'epoch', fresh, 'run', run, 'begun', text(now), 'time', text(now), 'roll', fleet.roll,
		'whole', '0')
	for id, m in pairs(members) do
		set_member(id, { session = '-', state = 0, joined = version, known = 0, last = now, widest = m.widest,
			clock = 0 })
	end
end

-- fresh epoch if one has to begin, epoch that the host doubts or '', widest window, the host's clock, the hosts it knows
-- of. It is told when it was last heard of, by both clocks, so that it sees when ours has jumped since.
local function join()
	local fresh, doubted, widest, clock_there, roll = word(), word(), number(), number(), word()
	if not fleet.epoch or fleet.run ~= run or fleet.epoch == doubted then
		begin_epoch(fresh)
	end
	local old = members[host]
	for id in string.gmatch(roll .. ' ' .. host, '%S+') do
		if not members[id] and (fleet.whole == '0' or id == host) then
			set_roll(tonumber(fleet.roll) + 1)
			set_member(id, { session = '-', state = 0, joined = tonumber(fleet.roll), known = 0, last = now,
				widest = widest, clock = 0 })
		end
	end
	local me = members[host]
	local heard, heard_there = me.clock > 0 and me.last or 0, me.clock
	local has_told = redis.call('HGET', KEYS[1], 't:' .. host) == fleet.epoch
	set_member(host, { session = session, state = JOINED, joined = me.joined, known = old and me.known or 0, last = now,
		widest = math.max(widest, me.widest), clock = clock_there })
	touch_fleet()
	return { 'joined', text(now), fleet.epoch, has_told and '1' or '0', text(heard), text(heard_there) }
end

--- counters

local function grain_of(c)
	return math.ceil(c.width / BUCKETS)
end

local function charge(c, count)
	if count <= 0 then
		return
	end
	if c.is_calendar then
		c.settled = c.settled + count
		c.changed.u = text(c.settled)
		return
	end
	local n = math.floor(now / grain_of(c))
	c.bucket[n] = (c.bucket[n] or 0) + count
	c.changed['b:' .. text(n)] = text(c.bucket[n])
end

local function held_by(h)
	return math.max(0, h.granted - h.settled - h.returned)
end

local function set_host(c, id, h)
	c.hosts[id] = h
	c.changed['h:' .. id] = string.format('%s %s %s %s', h.session, text(h.granted), text(h.settled), text(h.returned))
end

local function remove(c, field)
	c.changed[field] = nil
	c.removed[#c.removed + 1] = field
end

local function expire_buckets(c)
	local grain = grain_of(c)
	local first = math.floor(now / grain) - math.ceil(c.width / grain)
	for n in pairs(c.bucket) do
		if n < first then
			c.bucket[n] = nil
			remove(c, 'b:' .. text(n))
		end
	end
end

-- What a host held that is dead, or that was started anew and has said what of it is under way, is taken as used now.
local function take_from_the_gone(c)
	for id, h in pairs(c.hosts) do
		local m = members[id]
		if not m or m.last + SILENT < now or (m.state == READY and m.session ~= h.session) then
			charge(c, held_by(h))
			c.hosts[id] = nil
			remove(c, 'h:' .. id)
		end
	end
end

local function open_period(c, period_end)
	if c.ends and now >= c.ends then
		c.settled, c.ends = 0, nil
		remove(c, 'u')
		remove(c, 'e')
	end
	if not c.ends and period_end > now then
		c.ends = period_end
		c.changed.e = text(period_end)
	end
end

-- kind ('r' rolling, 'c' calendar), width, end of the calendar's period as the host sees it
local function open_counter(key)
	local c = { key = key, bucket = {}, hosts = {}, settled = 0, changed = {}, removed = {} }
	c.is_calendar = word() == 'c'
	c.width = number()
	local period_end = number()
	for name, value in pairs(hash(key)) do
		local kind, rest = string.sub(name, 1, 1), string.sub(name, 3)
		if kind == 'b' then
			c.bucket[tonumber(rest)] = tonumber(value)
		elseif kind == 'h' then
			local s, granted, settled, returned = string.match(value, '^(%S+) (%d+) (%d+) (%d+)$')
			c.hosts[rest] = { session = s, granted = tonumber(granted), settled = tonumber(settled),
				returned = tonumber(returned) }
		elseif name == 'u' then
			c.settled = tonumber(value)
		elseif name == 'e' then
			c.ends = tonumber(value)
		elseif name == 'x' then
			c.is_set = true
		elseif name == 's:' .. host then
			c.has_told = true
		end
	end
	if c.is_calendar then
		open_period(c, period_end)
	end
	expire_buckets(c)
	take_from_the_gone(c)
	return c
end

local function close_counter(c)
	local flat = {}
	for name, value in pairs(c.changed) do
		flat[#flat + 1] = name
		flat[#flat + 1] = value
	end
	if #c.removed > 0 then
		redis.call('HDEL', c.key, unpack(c.removed))
	end
	if #flat > 0 then
		redis.call('HSET', c.key, unpack(flat))
	end
	redis.call('PEXPIRE', c.key, text(c.width + 2 * SILENT + SLACK))
end

local function settled_in(c)
	local sum = c.settled
	for _, count in pairs(c.bucket) do
		sum = sum + count
	end
	return sum
end

local function held_in(c)
	local sum = 0
	for _, h in pairs(c.hosts) do
		sum = sum + held_by(h)
	end
	return sum
end

local function held_by_living_others(c)
	local sum = 0
	for id, h in pairs(c.hosts) do
		if id ~= host and members[id].last + ALIVE >= now then
			sum = sum + held_by(h)
		end
	end
	return sum
end

-- Milliseconds until `excess` have expired; -1: that waits for what is under way, or may come back from there sooner.
local function wait_for(c, excess)
	if held_by_living_others(c) >= excess then
		return -1
	end
	if c.is_calendar then
		return c.settled >= excess and c.ends and c.ends - now or -1
	end
	local order = {}
	for n in pairs(c.bucket) do
		order[#order + 1] = n
	end
	table.sort(order)
	for _, n in ipairs(order) do
		excess = excess - c.bucket[n]
		if excess <= 0 then
			local grain = grain_of(c)
			return math.max(1, (n + math.ceil(c.width / grain) + 1) * grain - now)
		end
	end
	return -1
end

-- After a loss: everybody has told, or an operator has, or whatever was used before the loss has expired.
local function is_trustworthy(c)
	return fleet.whole == '1' or c.is_set or now >= tonumber(fleet.begun) + c.width + SILENT + (c.is_calendar and SLACK or 0)
end

-- amount, settled, returned, both as last acknowledged, wanted to hold, least of use
local function serve(c, may_get)
	local amount, settled, returned, settled_known, returned_known, want, need =
		number(), number(), number(), number(), number(), number(), number()
	local me = c.hosts[host] or
		{ session = session, granted = settled_known + returned_known, settled = settled_known, returned = returned_known }
	charge(c, settled - me.settled)
	me.settled = math.max(me.settled, settled)
	me.returned = math.max(me.returned, returned)
	me.granted = math.max(me.granted, me.settled + me.returned)
	local used = settled_in(c) + held_in(c) + (c.hosts[host] and 0 or held_by(me))
	local more = math.min(want - held_by(me), amount - used)
	if more < need then
		more = 0 -- of no use: half of what two hosts need each must not block both
	end
	if more > 0 and may_get and is_trustworthy(c) and (c.ends or not c.is_calendar) then
		me.granted = me.granted + more
		used = used + more
	end
	set_host(c, host, me)
	local wait = 0
	if c.is_calendar and not c.ends then
		wait = -2
	elseif used + need > amount then
		wait = wait_for(c, used + need - amount)
	end
	return text(me.granted), text(used), text(wait)
end

-- under way, how many charges, then age and count of each
local function take_over(c)
	local outstanding, count = number(), number()
	local me = c.hosts[host]
	if me and me.session ~= session then
		charge(c, held_by(me) - outstanding)
	end
	set_host(c, host, { session = session, granted = outstanding, settled = 0, returned = 0 })
	for _ = 1, count do
		local age, used = number(), number()
		if not c.has_told then
			local here = now
			if not c.is_calendar then
				now = math.max(0, now - age)
			end
			charge(c, used)
			now = here
		end
	end
	c.changed['s:' .. host] = '1'
end

-- what (0 set, 1 reset, 2 used up), amount, used
local function correct(c)
	local what, amount, used = number(), number(), number()
	local before = settled_in(c) + held_in(c)
	if what == 2 then
		charge(c, amount - before)
		return text(before)
	end
	for n in pairs(c.bucket) do
		c.bucket[n] = nil
		remove(c, 'b:' .. text(n))
	end
	c.settled = 0
	c.changed.u = c.is_calendar and '0' or nil
	c.changed.x = '1'
	charge(c, used - held_in(c))
	return text(before)
end

--- steps

if step == 'join' then
	return join()
end
local me = members[host]
if not fleet.epoch or fleet.epoch ~= epoch or fleet.run ~= run or not me or me.state == 0 or me.last + SILENT < now then
	return { 'lost' }
end
if me.session ~= session then
	return { 'replaced' }
end

-- is ready, version of the roll that it has stored, widest window, the host's clock
local is_ready, known, widest, clock_there = word() == '1', number(), number(), number()
me.last = now
me.clock = clock_there
me.known = math.max(me.known, known)
me.widest = math.max(me.widest, widest)
if is_ready and me.state == JOINED then
	me.state = READY
	redis.call('HSET', KEYS[1], 't:' .. host, fleet.epoch)
end
set_member(host, me)
drop_the_forgotten()
look_whether_whole()
local is_known, waits_for = is_known_to_all(host)
if fleet.whole ~= '1' then
	for id, m in pairs(members) do
		if m.state ~= READY and id ~= host then
			waits_for = id
		end
	end
end
local roll, count = '', 0
for id in pairs(members) do
	roll = roll .. ' ' .. id
	count = count + 1
end
if step == 'correct' then
	fleet.corrected = redis.call('HINCRBY', KEYS[1], 'corrected', 1)
end
local answer = { 'ok', text(now), fleet.roll, known == tonumber(fleet.roll) and '' or roll, waits_for or '', text(count),
	tostring(fleet.corrected or 0) }
for i = 2, #KEYS do
	local c = open_counter(KEYS[i])
	if step == 'sync' then
		local granted, used, wait = serve(c, is_known and me.state == READY)
		answer[#answer + 1] = granted
		answer[#answer + 1] = used
		answer[#answer + 1] = wait
	elseif step == 'tell' then
		take_over(c)
	else
		answer[#answer + 1] = correct(c)
	end
	close_counter(c)
end
touch_fleet()
return answer
