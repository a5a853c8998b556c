"""A document source: the texts of documents, from a file of JSON Lines with sourcedb, sourceid and text.

    python3 documents.py documents.jsonl [PORT]
"""
import http.server
import json
import sys

with open(sys.argv[1], encoding="utf-8") as lines:
    documents = {d["sourceid"]: d for d in map(json.loads, lines)}


class Source(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        ids = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        docs = [documents[i] for i in ids if i in documents]
        messages = [f"There is no document {i}." for i in ids if i not in documents]
        body = json.dumps({"docs": docs, "messages": messages}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 8080), Source)
print(f"http://127.0.0.1:{server.server_port}/", flush=True)
server.serve_forever()
