--- Metrics in memory and as text: counters, gauges and histograms with labels, in the text format
-- 0.0.4 of Prometheus. A family with labels shows up with its first sample.
local M = {}

M.SERIES_MAX = 1000 -- of one family: labels can come from requests

---@class peerup.metric_family
local Family = {}
Family.__index = Family

---@class peerup.metric_registry
local Registry = {}
Registry.__index = Registry

---@return peerup.metric_registry
function M.new()
  return setmetatable({ families = {}, order = {}, collectors = {} }, Registry)
end

local function declare(self, kind, name, help, labels, buckets)
  assert(not self.families[name], name)
  local family = setmetatable({ kind = kind, name = name, help = help, labels = labels or {},
    buckets = buckets, series = {}, count = 0 }, Family)
  self.families[name] = family
  self.order[#self.order + 1] = name
  table.sort(self.order)
  return family
end

---@param name string
---@param help string
---@param labels string[]?
---@return peerup.metric_family
function Registry:counter(name, help, labels)
  return declare(self, "counter", name, help, labels)
end

function Registry:gauge(name, help, labels)
  return declare(self, "gauge", name, help, labels)
end

---@param buckets number[]  upper bounds, ascending; +Inf is added
function Registry:histogram(name, help, labels, buckets)
  return declare(self, "histogram", name, help, labels, buckets)
end

--- Has fn called before each text: for what is counted elsewhere.
function Registry:collect(fn)
  self.collectors[#self.collectors + 1] = fn
end

local function escape(text)
  return (text:gsub('[\\"\n]', { ["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n" }))
end

--- The labels of a sample as they are written; values in the order of the family's names.
local function label_text(family, values)
  local parts = {}
  for i, name in ipairs(family.labels) do
    parts[i] = ('%s="%s"'):format(name, escape(tostring(values[i])))
  end
  return table.concat(parts, ",")
end

local function series(family, values)
  assert(#values == #family.labels, family.name)
  local key = label_text(family, values)
  local one = family.series[key]
  if not one then
    if family.count >= M.SERIES_MAX then return nil end
    family.count = family.count + 1
    one = { value = 0 }
    if family.buckets then
      one.sum, one.counts = 0, {}
      for i = 1, #family.buckets do one.counts[i] = 0 end
    end
    family.series[key] = one
  end
  return one
end

--- Adds to a counter or gauge.
---@param amount number
---@param ... string  label values
function Family:add(amount, ...)
  local one = series(self, { ... })
  if one then one.value = one.value + amount end
end

--- Sets a gauge, or a counter that is counted elsewhere.
function Family:set(value, ...)
  local one = series(self, { ... })
  if one then one.value = value end
end

--- Forgets all samples of a gauge that is counted anew.
function Family:reset()
  self.series, self.count = {}, 0
end

--- Puts a value into a histogram.
function Family:observe(value, ...)
  local one = series(self, { ... })
  if not one then return end
  one.value, one.sum = one.value + 1, one.sum + value
  for i, bound in ipairs(self.buckets) do
    if value <= bound then one.counts[i] = one.counts[i] + 1 end
  end
end

local function number(value)
  if math.type(value) == "integer" then return ("%d"):format(value) end
  if value == math.huge then return "+Inf" end
  if value == math.floor(value) and math.abs(value) < 1e15 then return ("%d"):format(value) end
  local short = ("%.15g"):format(value)
  return tonumber(short) == value and short or ("%.17g"):format(value)
end

--- A bound as other programs write it: 0.1, not 0.10000000000000001.
local function bound_text(value)
  return (("%.6f"):format(value):gsub("%.?0+$", ""))
end

local function write_sample(out, name, labels, value)
  out[#out + 1] = ("%s%s %s\n"):format(name, labels ~= "" and "{" .. labels .. "}" or "",
    number(value))
end

local function write_histogram(out, family, labels, one)
  local prefix = labels ~= "" and labels .. "," or ""
  for i, bound in ipairs(family.buckets) do
    write_sample(out, family.name .. "_bucket", ('%sle="%s"'):format(prefix, bound_text(bound)),
      one.counts[i])
  end
  write_sample(out, family.name .. "_bucket", prefix .. 'le="+Inf"', one.value)
  write_sample(out, family.name .. "_sum", labels, one.sum)
  write_sample(out, family.name .. "_count", labels, one.value)
end

--- All samples as text.
---@return string
function Registry:text()
  for _, fn in ipairs(self.collectors) do fn() end
  local out = {}
  for _, name in ipairs(self.order) do
    local family = self.families[name]
    if next(family.series) then
      out[#out + 1] = ("# HELP %s %s\n# TYPE %s %s\n"):format(name, family.help, name, family.kind)
      local keys = {}
      for key in pairs(family.series) do keys[#keys + 1] = key end
      table.sort(keys)
      for _, key in ipairs(keys) do
        local one = family.series[key]
        if family.buckets then write_histogram(out, family, key, one)
        else write_sample(out, name, key, one.value) end
      end
    end
  end
  return table.concat(out)
end

return M
