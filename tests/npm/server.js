/*
 * server.js ADDRESS KEY CERTIFICATE TOKENINFO LEDGER - Nodemailer's smtp-server: STARTTLS at 2587, TLS at 2465.
 *
 * Who logs in with a token is asked of TOKENINFO?access_token=; passwords are bob's. What happens is a line of JSON in
 * LEDGER. Recipients "later" and "never" are refused.
 */
'use strict';
const fs = require('fs');
const http = require('http');
const { SMTPServer } = require('smtp-server');

const [address, key, cert, tokeninfo, ledger] = process.argv.slice(2);
const PASSWORD = 'bob+pass/2=';
const note = (what) => fs.appendFileSync(ledger, JSON.stringify(what) + '\n');
const refuse = (code, text) => Object.assign(new Error(text), { responseCode: code });

function onToken(a, callback) {
	http.get(tokeninfo + encodeURIComponent(a.accessToken), (answer) => {
		answer.resume();
		note({ event: 'auth', method: a.method, user: a.username, taken: answer.statusCode === 200 });
		callback(null, answer.statusCode === 200 ? { user: a.username }
			: { data: { status: '401', schemes: 'bearer', scope: 'mail' } });
	}).on('error', callback);
}

function onAuth(a, session, callback) {
	if (a.method === 'XOAUTH2')
		return onToken(a, callback);
	const taken = a.username === 'bob' && (a.method === 'CRAM-MD5' ? a.validatePassword(PASSWORD) : a.password === PASSWORD);
	note({ event: 'auth', method: a.method, user: a.username, taken });
	return taken ? callback(null, { user: a.username }) : callback(refuse(535, 'wrong user or password'));
}

function onRcptTo(rcpt, session, callback) {
	if (rcpt.address.startsWith('later@'))
		return callback(refuse(450, 'come back later'));
	if (rcpt.address.startsWith('never@'))
		return callback(refuse(550, 'no such user'));
	return callback();
}

function onData(stream, session, callback) {
	const pieces = [];
	stream.on('data', (piece) => pieces.push(piece));
	stream.on('end', () => {
		const data = Buffer.concat(pieces);
		note({ event: 'message', from: session.envelope.mailFrom.address, secure: session.secure,
			rcpts: session.envelope.rcptTo.map((r) => r.address), data: data.toString('latin1') });
		callback(null, 'taken');
	});
}

for (const [port, secure, methods] of [[2587, false, ['PLAIN', 'LOGIN', 'CRAM-MD5', 'XOAUTH2']], [2465, true, ['XOAUTH2']]]) {
	const server = new SMTPServer({ name: 'npm.peer.example', key: fs.readFileSync(key), cert: fs.readFileSync(cert), secure,
		size: 1 << 20, authMethods: methods, disableReverseLookup: true, closeTimeout: 1000, onAuth, onRcptTo, onData });
	server.on('error', () => {});
	server.listen(port, address);
}
