'use strict';
'require view';
'require fs';
'require ui';
'require dom';
'require poll';

// LuCI's E() reads a string as HTML, and an array of strings as texts: every text is in an array,
// because attackers choose host names, comments and tools. What the command line says is English in
// every language of the page (lang). In commands, "--" ends the options, so
// that the ACL's "*" can only be an address.

var PROGRAM = '/usr/bin/sentryfw',
    POLL_S = 5,
    STATES = { guarding: _('Guarding'), observing: _('Observing'), off: _('Not guarding') },
    COLUMNS = [ _('Source'), _('What'), _('Tool'), _('Since'), _('Ends in'), _('Dropped'), _('Decision'), _('Evidence'), '' ];

function visible(text) {
	return String(text).replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g, function(character) {
		return '\\u' + ('000' + character.charCodeAt(0).toString(16)).slice(-4);
	});
}

function duration(seconds) {
	var left = Math.max(0, Math.round(seconds));
	if (left < 60) return _('%d s').format(left);
	if (left < 3600) return _('%d min').format(Math.floor(left / 60));
	if (left < 86400) return _('%d h %d min').format(Math.floor(left / 3600), Math.floor(left % 3600 / 60));
	return _('%d d %d h').format(Math.floor(left / 86400), Math.floor(left % 86400 / 3600));
}

function time(iso) {
	return iso ? new Date(iso).toLocaleString() : _('unknown');
}

// Where a source is from: country, autonomous system, labels.
function origin(item) {
	var system = item.origin['as'];
	return [ item.origin.geo.country_iso_code, system.number ? 'AS' + system.number + ' ' + (system.organization.name || '') : '' ]
		.concat(item.origin.labels).filter(Boolean).join(', ');
}

function evidence(item) {
	return !item.kinds.length ? _('by hand') : item.forgeable ? _('could be forged') : _('proven');
}

// Returns the parsed answer. Commands that report a state by their exit code answer, too.
function ask(words) {
	return fs.exec(PROGRAM, words).then(function(res) {
		try {
			return JSON.parse(res.stdout);
		} catch (error) {
			throw new Error(res.stderr || _('sentryfw gave no answer (exit code %d)').format(res.code));
		}
	});
}

function cells(tag, items) {
	return items.map(function(item) {
		return E(tag, { 'class': tag }, Array.isArray(item) ? item : [ item ]);
	});
}

function table(id, columns, rows, nothing) {
	if (!rows.length)
		return E('p', { 'id': id }, [ E('em', {}, [ nothing ]) ]);
	return E('table', { 'class': 'table', 'id': id }, [
		E('tr', { 'class': 'tr table-titles' }, cells('th', columns))
	].concat(rows.map(function(row) {
		return E('tr', { 'class': 'tr' }, cells('td', row));
	})));
}

return view.extend({
	load: function() {
		return Promise.all([
			ask([ 'status', '--json' ]),
			ask([ 'list', '--json', '--limit', '50' ]).catch(function() { return []; })
		]);
	},

	change: function(words, done) {
		return fs.exec(PROGRAM, words).then(L.bind(function(res) {
			ui.hideModal();
			ui.addNotification(null, E('p', {}, [ visible((res.code ? res.stderr : done) || done) ]), res.code ? 'danger' : 'info');
			return this.refresh();
		}, this));
	},

	confirm: function(question, words, done) {
		ui.showModal(_('Port scans'), [
			E('p', {}, [ question ]),
			E('div', { 'class': 'right' }, [
				E('button', { 'class': 'btn', 'click': ui.hideModal }, [ _('Cancel') ]), ' ',
				E('button', { 'class': 'btn cbi-button-negative', 'click': ui.createHandlerFn(this, 'change', words, done) }, [ question ])
			])
		]);
	},

	explain: function(address) {
		return ask([ 'explain', '--json', '--', address ]).then(L.bind(this.showStory, this)).catch(function(error) {
			ui.addNotification(null, E('p', {}, [ visible(error.message) ]), 'warning');
		});
	},

	showStory: function(found) {
		var rows = [];
		function probe(seen, why) { rows.push([ seen.at, why, seen.kind, seen.target ]); }
		found.probes.forEach(function(seen) { probe(seen, _('probe')); });
		found.blocks.forEach(function(block) {
			block.evidence.forEach(function(seen) { probe(seen, _('probe that led to the block')); });
			rows.push([ block.at, _('blocked: %s').format(block.reason), block.kinds.join(' '), block.scan ]);
		});
		found.refusals.forEach(function(refused) {
			refused.evidence.forEach(function(seen) { probe(seen, _('probe that led to no block')); });
			rows.push([ refused.at, (refused.timeout_s ? _('confined: %s') : _('not blocked: %s')).format(refused.rule), refused.kinds.join(' '), refused.scan ]);
		});
		rows.sort(function(a, b) { return a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0; });
		var lists = found.never_block.map(function(item) { return E('p', {}, [ _('Never blocked: %s').format(visible(item.why + ' (' + item.network + ')')) ]); });
		ui.showModal(visible(found.address), [
			E('p', { 'id': 'because', 'lang': 'en' }, [ visible(found.because) ])
		].concat(origin(found) ? [ E('p', {}, [ _('Origin: %s').format(visible(origin(found))) ]) ] : [], lists, [
			table('story', [ _('When'), _('What'), _('Kind'), _('Target') ], rows.map(function(row) {
				return [ time(row[0]), visible(row[1]), visible(row[2]), visible(row[3]) ];
			}), _('Nothing else is known of it.')),
			E('div', { 'class': 'right' }, [ E('button', { 'class': 'btn', 'click': ui.hideModal }, [ _('Close') ]) ])
		]));
	},

	renderState: function(status) {
		var summary = status.summary, trial = summary.trial_ends_at;
		var because = summary.because.length ? E('span', { 'lang': 'en' }, [ ': ' + visible(summary.because[0]) ]) : '';
		return E('div', { 'class': 'alert-message ' + (summary.state === 'guarding' ? 'success' : 'warning'), 'id': 'state' }, [
			STATES[summary.state], because, trial ? '. ' + _('On trial until %s').format(time(trial)) : ''
		]);
	},

	renderFigures: function(status) {
		var counters = status.counters, dropped = [ 'blocked_early', 'blocked_late', 'blocked_prefix', 'confined' ].reduce(function(sum, name) {
			return sum + (counters[name] ? counters[name].packets : 0);
		}, 0);
		return E('p', { 'id': 'figures' }, [
			_('Blocked now: %d').format(status.blocked4 + status.blocked6) + ' \u00b7 ' + _('packets dropped: %d').format(dropped)
		]);
	},

	renderBlocks: function(blocks) {
		return table('blocks', COLUMNS, blocks.map(L.bind(function(block) {
			var address = block.address;
			return [
				visible(address) + [ block.host, origin(block) ].filter(Boolean).map(function(text) { return ' (' + visible(text) + ')'; }).join(''),
				visible([ block.scan || block.reason ].concat(block.kinds, block.zone ? [ _('zone') + ' ' + block.zone ] : [], block.member ? [ _('by') + ' ' + block.member + ', ' + (block.evidence || '') ] : []).join(' ')), visible(block.tool), time(block.blocked_at),
				block.timeout_s ? duration(block.expires_in_s) : _('forever'), String(block.dropped_packets),
				block.decision === 'confine' ? _('confined') : _('blocked'), evidence(block),
				[
					E('button', { 'class': 'btn', 'click': ui.createHandlerFn(this, 'explain', address) }, [ _('Why') ]), ' ',
					E('button', { 'class': 'btn', 'disabled': L.hasViewPermission() ? null : true, 'click': L.bind(this.confirm, this, _('Unblock %s?').format(address), [ 'unblock', '--', address ], _('%s is unblocked').format(address)) }, [ _('Unblock') ]), ' ',
					E('button', { 'class': 'btn', 'disabled': L.hasViewPermission() ? null : true, 'click': L.bind(this.confirm, this, _('Never block %s?').format(address), [ 'allow', 'add', '--comment', 'LuCI', '--', address ], _('%s is never blocked').format(address)) }, [ _('Allow') ])
				]
			];
		}, this)), _('Nothing is blocked.'));
	},

	draw: function(data) {
		dom.content(this.place, [ this.renderState(data[0]), this.renderFigures(data[0]), this.renderBlocks(data[1]) ]);
	},

	refresh: function() {
		return this.load().then(L.bind(this.draw, this)).catch(L.bind(function(error) {
			dom.content(this.place, [ E('div', { 'class': 'alert-message warning', 'id': 'state' }, [ visible(error.message) ]) ]);
		}, this));
	},

	render: function(data) {
		var searched = E('input', { 'id': 'searched', 'type': 'text', 'class': 'cbi-input-text', 'placeholder': _('Address or network') });
		this.place = E('div', {}, []);
		this.draw(data);
		// Rows do not move under the pointer.
		poll.add(L.bind(function() {
			return this.place.matches(':hover') ? Promise.resolve() : this.refresh();
		}, this), POLL_S);
		return E('div', {}, [
			E('h2', {}, [ _('Port scans') ]),
			E('p', {}, [ searched, ' ', E('button', { 'class': 'btn cbi-button-action', 'id': 'explain', 'click': ui.createHandlerFn(this, function() {
				return this.explain(searched.value.trim());
			}) }, [ _('Explain') ]) ]),
			this.place
		]);
	},

	handleSave: null,
	handleSaveApply: null,
	handleReset: null
});
