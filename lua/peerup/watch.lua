--- Watches files by name and tells of changes within a second: the system's notices where they
-- come, and a look each second where they do not (network file systems, replaced directories).
local uv = require "luv"
local fs = require "peerup.fs"

local M = {}

M.POLL_MS = 1000
M.SETTLE_MS = 30 -- an editor writes in several steps

--- What a file is now, and which file it is.
local function signature(path)
  local stat = uv.fs_stat(path)
  if not stat then return "absent", nil end
  return ("%d:%d:%d.%d"):format(stat.ino, stat.size, stat.mtime.sec, stat.mtime.nsec), stat.ino
end

---@class peerup.watch
local Watch = {}
Watch.__index = Watch

local function close(handle)
  if handle and not handle:is_closing() then handle:close() end
end

--- Starts watching. Both functions run on the loop, outside any task.
---@param paths string[]
---@param on_change fun(path: string)
---@param on_tick fun()?  called each second
---@return peerup.watch
function M.start(paths, on_change, on_tick)
  local self = setmetatable({ on_change = on_change, on_tick = on_tick, files = {}, inodes = {},
    dirs = {} }, Watch)
  for _, path in ipairs(paths) do self:add(path) end
  self.settle = uv.new_timer()
  self.poll = uv.new_timer()
  self.poll:start(M.POLL_MS, M.POLL_MS, function()
    self:look()
    if self.on_tick and self.poll then self.on_tick() end
  end)
  return self
end

--- Watches one more file.
function Watch:add(path)
  if self.files[path] then return end
  self.files[path], self.inodes[path] = signature(path)
  local dir = fs.dirname(path)
  if self.dirs[dir] then return end
  local event = uv.new_fs_event()
  local ok = event and event:start(dir, {}, function()
    if not self.settle or self.settle:is_active() then return end
    if self:replaced() then return self:look() end
    self.settle:start(M.SETTLE_MS, 0, function() self:look() end)
  end)
  if ok then self.dirs[dir] = event else close(event) end
end

--- Tells whether a file was replaced by another, which is whole: there is nothing to wait for.
function Watch:replaced()
  for path in pairs(self.files) do
    local _, inode = signature(path)
    if inode and inode ~= self.inodes[path] then return true end
  end
  return false
end

--- Compares all files with what they were.
function Watch:look()
  if not self.poll then return end
  local changed = {}
  for path, before in pairs(self.files) do
    local now, inode = signature(path)
    if now ~= before then
      self.files[path], self.inodes[path] = now, inode
      changed[#changed + 1] = path
    end
  end
  table.sort(changed)
  for _, path in ipairs(changed) do
    if self.poll then self.on_change(path) end
  end
end

--- Takes the state of a file as seen: its owner reads it now, and needs no call for it.
function Watch:seen(path)
  if self.files[path] then self.files[path], self.inodes[path] = signature(path) end
end

function Watch:close()
  close(self.settle)
  close(self.poll)
  self.settle, self.poll = nil, nil
  for _, event in pairs(self.dirs) do close(event) end
  self.dirs = {}
end
Watch.__close = Watch.close

return M
