-- Ask Django whose ticket a connection shows. txn.status tells what it answered.
local url, key = "${DJANGO_URL}/internal/authorize/", "Bearer ${SERVICE_KEY}"
local passed_on = { "origin", "sec-websocket-protocol" }

core.register_action("authorize", { "http-req" }, function(txn)
	local headers = {
		authorization = { key },
		["x-original-uri"] = { txn.sf:url() },
	}
	local received = txn.http:req_get_headers()
	for _, name in ipairs(passed_on) do
		headers[name] = received[name] and { txn.sf:req_fhdr(name) }
	end
	local answer = core.httpclient():get({ url = url, headers = headers })
	txn:set_var("txn.status", answer.status)
	for _, name in ipairs({ "x-realtime-user", "x-realtime-username" }) do
		local values = answer.headers and answer.headers[name]
		txn.http:req_set_header(name, values and values[0] or "")
	end
end)
