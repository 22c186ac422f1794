--- Files: reading, directories, and writing beside and renaming, so that a crash leaves no half.
local uv = require "luv"
local err = require "peerup.err"

local M = {}

M.PRIVATE = tonumber("600", 8)
M.PRIVATE_DIR = tonumber("700", 8)
M.MAX_BYTES = 16 * 1024 * 1024 -- no file of ours is larger; a device must not fill the memory

local CODES = {
  ENOENT = "not_found", EACCES = "permission", EPERM = "permission", EEXIST = "exists",
}

local function wrap(path, message, name)
  local reason = tostring(message):gsub("^%u+: ", ""):gsub(": .*$", "")
  return err.say(CODES[name or ""] or "io_error", ("%s: %s"):format(path, reason))
end

---@param path string
---@return string
function M.dirname(path)
  local dir = path:match("^(.*)/[^/]*$")
  if dir == "" then return "/" end
  return dir or "."
end

---@param path string
---@return string
function M.basename(path)
  return path:match("([^/]*)$")
end

--- Joins a relative path to a directory; absolute ones stay.
---@return string
function M.join(dir, path)
  if path:sub(1, 1) == "/" or dir == "." or dir == "" then return path end
  if dir:sub(-1) == "/" then return dir .. path end
  return dir .. "/" .. path
end

--- Follows symbolic links where it can, so that renaming does not replace a link by a file.
local function real(path)
  return uv.fs_realpath(path) or path
end

---@return table? stat
function M.stat(path)
  return (uv.fs_stat(path))
end

---@return boolean
function M.exists(path)
  return uv.fs_stat(path) ~= nil
end

--- Reads a whole file.
---@return string? bytes, peerup.err?
function M.read(path)
  local fd, message, name = uv.fs_open(path, "r", 0)
  if not fd then return nil, wrap(path, message, name) end
  local parts, total = {}, 0
  local problem
  while true do
    local chunk
    chunk, message, name = uv.fs_read(fd, 65536, -1)
    if not chunk then problem = wrap(path, message, name) end
    if not chunk or chunk == "" then break end
    total = total + #chunk
    if total > M.MAX_BYTES then
      problem = err.say("limit", ("%s: larger than %d MiB"):format(path, M.MAX_BYTES >> 20))
      break
    end
    parts[#parts + 1] = chunk
  end
  uv.fs_close(fd)
  if problem then return nil, problem end
  return table.concat(parts)
end

--- Writes a whole file beside its place and renames it there; mode is 0600 unless given.
---@return true?, peerup.err?
function M.write(path, bytes, mode)
  return require("peerup.core").fs.write_atomic(real(path), bytes, mode or M.PRIVATE)
end

--- Creates a file that must not exist yet.
---@return true?, peerup.err?
function M.create(path, bytes, mode)
  if M.exists(path) then return nil, err.say("exists", path .. ": already exists") end
  return M.write(path, bytes, mode)
end

---@return true?, peerup.err?
function M.remove(path)
  local ok, message, name = uv.fs_unlink(path)
  if not ok then return nil, wrap(path, message, name) end
  return true
end

--- Makes a directory and its parents.
---@return true?, peerup.err?
function M.mkdir(path, mode)
  local stat = M.stat(path)
  if stat then
    if stat.type == "directory" then return true end
    return nil, err.say("exists", path .. ": exists and is no directory")
  end
  local parent = M.dirname(path)
  if parent ~= path then
    local ok, problem = M.mkdir(parent, mode)
    if not ok then return nil, problem end
  end
  local ok, message, name = uv.fs_mkdir(path, mode or M.PRIVATE_DIR)
  if not ok and name ~= "EEXIST" then return nil, wrap(path, message, name) end
  return true
end

--- Refuses a file that group or others may touch.
---@return true?, peerup.err?
function M.check_private(path)
  local stat, message, name = uv.fs_stat(path)
  if not stat then return nil, wrap(path, message, name) end
  local mode = stat.mode & tonumber("777", 8)
  if mode & tonumber("077", 8) ~= 0 then
    return nil, err.say("key_mode", ("%s has mode %04o, so others can read or write it; "
      .. "run: chmod 600 %s"):format(path, mode, path))
  end
  return true
end

return M
