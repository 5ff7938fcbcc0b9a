# The gift service for Rack servers: `POST /send` calls sendPresent, then writes the order; each once.
require "json"
require "net/http"

boot = ENV["DRILL_BOOT"] ? File.read(ENV["DRILL_BOOT"]).split : []
sleep boot[1].to_f if boot[0] == "wait"
raise "this code cannot be loaded" if boot[0] == "raise"

call = lambda do |path, order|
  where = URI(ENV["DRILL_LEDGERS"] + path)
  answer = Net::HTTP.post(where, JSON.generate(order: order), "Content-Type" => "application/json")
  raise "#{path}: #{answer.code}" unless answer.code == "200"
end

run(lambda do |env|
  unless env["PATH_INFO"].end_with?("/ready")
    order = JSON.parse(env["rack.input"].read)["order"]
    call.("/sendPresent", order)
    call.("/order", order)
  end
  [200, { "Content-Type" => "text/plain" }, ["sent\n"]]
end)
