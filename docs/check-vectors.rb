# Check a reader against the test vectors.
# ruby check-vectors.rb wire-format-vectors.json ./ticket.rb
require "json"

# Like the storage: it gives the data for this key only, and only once.
class Kept < Hash
  alias getdel delete
end

vectors = JSON.parse(File.read(ARGV[0], encoding: "UTF-8"))
require File.expand_path(ARGV[1])
checked = 0

def same(found, expected, name)
  raise "#{name}: #{found.inspect} is not #{expected.inspect}" unless found.eql?(expected)
end

vectors["tickets"].each do |ticket|
  name, value, audience = ticket.values_at("name", "value", "audience")
  options = { prefix: ticket["prefix"], hash_keys: ticket["hash_keys"] }
  same(Ticket.storage_key(value, audience: audience, **options), ticket["key"], name)
  claims = Ticket.open_data(ticket["data"], audience: audience)
  same(claims.values_at("iat", "exp"), ticket.values_at("iat", "exp"), name)
  same(claims.reject { |key,| %w[iat exp aud].include?(key) }, ticket["claims"], name)
  same(Ticket.open_data(ticket["data"], audience: "elsewhere"), nil, name)

  kept = Kept[ticket["key"] => ticket["data"]]
  same(Ticket.consume(kept, value, audience: "elsewhere", **options), nil, name)
  same(Ticket.consume(kept, value, audience: audience, **options), claims, name)
  same(Ticket.consume(kept, value, audience: audience, **options), nil, name)
  checked += 1
end
vectors["accepted"].each do |ticket|
  found = Ticket.open_data(ticket["data"], audience: ticket["audience"])
  same(found.values_at("id", "username"), ticket.values_at("id", "username"), ticket["name"])
  checked += 1
end
vectors["malformed"].each do |value|
  same(Ticket.storage_key(value), nil, value.inspect)
  checked += 1
end
vectors["refused"].each do |data|
  same(Ticket.open_data(data), nil, data)
  checked += 1
end
puts "#{checked} vectors agree."
